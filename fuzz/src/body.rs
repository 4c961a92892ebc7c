//! Stands in for the body of a response: bytes at hand.

use bytes::Bytes;

#[derive(Debug, Default)]
pub(super) struct Body(pub(super) Bytes);

impl Body {
    pub(super) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self(bytes.into())
    }
}
