//! Forms that content has by its codec (pure).

use cid::Cid;

use super::format::{BlockFormat, Format};
use crate::ipfs::ipld;
use crate::ipfs::unixfs::Node;

/// How a block of a codec is sent.
pub(super) struct Kind {
    pub(super) content_type: &'static str,
    pub(super) format: &'static str,
    pub(super) extension: &'static str,
    pub(super) inline: bool,
    /// Whether a browser gets a page about it.
    pub(super) preview: bool,
}

/// The form of a codec, or the one asked for, where the codec has it: DAG-JSON is JSON, DAG-CBOR is CBOR.
pub(super) fn kind_of(cid: &Cid, format: Option<BlockFormat>) -> Option<Kind> {
    use BlockFormat::{Cbor, DagCbor, DagJson, Json};
    let format = match (cid.codec(), format) {
        (ipld::DAG_JSON, None | Some(DagJson)) => DagJson,
        (ipld::DAG_CBOR, None | Some(DagCbor)) => DagCbor,
        (ipld::JSON, None | Some(Json)) | (ipld::DAG_JSON, Some(Json)) => Json,
        (ipld::CBOR, None | Some(Cbor)) | (ipld::DAG_CBOR, Some(Cbor)) => Cbor,
        _ => return None,
    };
    let (content_type, name) = match format {
        DagJson => ("application/vnd.ipld.dag-json", "dag-json"),
        DagCbor => ("application/vnd.ipld.dag-cbor", "dag-cbor"),
        Json => ("application/json", "json"),
        Cbor => ("application/cbor", "cbor"),
    };
    let json = matches!(format, DagJson | Json);
    let (extension, preview) = (if json { "json" } else { "cbor" }, matches!(format, DagJson | DagCbor));
    Some(Kind { content_type, format: name, extension, inline: json, preview })
}

/// Whether a node may have a form; of JSON in UnixFS only its bytes tell.
pub(super) fn has(node: &Node, cid: &Cid, format: &Format) -> bool {
    match (format, node) {
        (Format::File | Format::Raw | Format::Car(_), _) => true,
        (Format::Tar, node) => !matches!(node, Node::Other(_)),
        (Format::IpnsRecord, _) => false,
        (Format::Block(format), Node::Other(_)) => kind_of(cid, Some(*format)).is_some(),
        (Format::Block(format), Node::Raw(_) | Node::File(_)) => *format == BlockFormat::Json,
        (Format::Block(_), _) => false,
    }
}
