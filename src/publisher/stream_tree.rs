//! Stub for the branch: replaced at merge.
#![allow(missing_docs)]

use std::collections::HashMap;

use cid::Cid;

#[derive(Debug, Clone)]
pub struct StreamTree {
    pub root: Cid,
    pub newest: u64,
    pub entries: HashMap<String, Entry>,
}

#[derive(Debug, Clone, Copy)]
pub struct Entry {
    pub cid: Cid,
    pub size: u64,
}
