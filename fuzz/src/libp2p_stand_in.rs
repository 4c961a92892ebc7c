//! What the swarm's files name of libp2p, and what the station names of the swarm.

use std::time::SystemTime;

use crate::{Multiaddr, PeerId};

/// Name of a protocol.
#[derive(Debug, Clone)]
pub struct StreamProtocol(&'static str);

impl StreamProtocol {
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }
}

/// As in skywave-swarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownPeer {
    pub peer: PeerId,
    pub address: Multiaddr,
    pub answered: SystemTime,
}

pub mod request_response {
    use std::io;

    use async_trait::async_trait;
    use futures::{AsyncRead, AsyncWrite};

    #[async_trait]
    pub trait Codec {
        type Protocol: Send + Clone;
        type Request: Send;
        type Response: Send;

        async fn read_request<T>(
            &mut self,
            protocol: &Self::Protocol,
            io: &mut T,
        ) -> io::Result<Self::Request>
        where
            T: AsyncRead + Unpin + Send;

        async fn read_response<T>(
            &mut self,
            protocol: &Self::Protocol,
            io: &mut T,
        ) -> io::Result<Self::Response>
        where
            T: AsyncRead + Unpin + Send;

        async fn write_request<T>(
            &mut self,
            protocol: &Self::Protocol,
            io: &mut T,
            request: Self::Request,
        ) -> io::Result<()>
        where
            T: AsyncWrite + Unpin + Send;

        async fn write_response<T>(
            &mut self,
            protocol: &Self::Protocol,
            io: &mut T,
            response: Self::Response,
        ) -> io::Result<()>
        where
            T: AsyncWrite + Unpin + Send;
    }
}
