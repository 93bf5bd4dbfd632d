//! The conversation over a two-way stream (`git://`, and a channel of SSH).

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{AGENT, FetchSink, STALL, TransportError};
use crate::protocol::{
    AdvertReader, Advertisement, Decoder, FetchEvent, FetchRequest, FetchResponse, Packet, ProtocolError,
    RefsReader, RemoteRef, encode_flush, encode_ls_refs,
};

/// Bytes read at once.
const READ_BUFFER: usize = 64 * 1024;

/// One run of upload-pack on the other side.
pub(super) struct Conversation<S> {
    stream: S,
    address: String,
    decoder: Decoder,
    buffer: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Conversation<S> {
    pub(super) fn new(stream: S, address: String) -> Self {
        Self { stream, address, decoder: Decoder::default(), buffer: vec![0; READ_BUFFER] }
    }

    /// Asks for refs, by whatever version the server speaks.
    pub(super) async fn refs(mut self, names: &[String]) -> Result<Vec<RemoteRef>, TransportError> {
        match self.greeting(names).await? {
            Advertisement::V0 { refs, .. } => {
                self.goodbye().await;
                Ok(refs)
            }
            Advertisement::V2(_) => {
                let mut request = Vec::new();
                encode_ls_refs(&mut request, AGENT, names);
                self.send(&request).await?;
                let mut reader = RefsReader::new(names.to_vec());
                loop {
                    let packet = self.packet("listing refs").await?;
                    if let Some(refs) = reader.packet(packet).map_err(|e| self.protocol(e))? {
                        self.goodbye().await;
                        return Ok(refs);
                    }
                }
            }
        }
    }

    /// Fetches into the sink.
    pub(super) async fn fetch(
        mut self,
        request: &FetchRequest,
        sink: FetchSink,
    ) -> Result<(), TransportError> {
        let mut filtered = false;
        let (wire, mut response) = match self.greeting(&[]).await? {
            Advertisement::V0 { capabilities, .. } => (
                request.encode_v0(&capabilities, AGENT).map_err(|e| self.protocol(e))?,
                FetchResponse::v0(request.depth.is_some()),
            ),
            Advertisement::V2(capabilities) => {
                filtered = request.is_filtered_by(&capabilities);
                (request.encode_v2(&capabilities, AGENT).map_err(|e| self.protocol(e))?, FetchResponse::v2())
            }
        };
        if filtered {
            sink.send(FetchEvent::Filtered).await.map_err(|_| TransportError::SinkClosed)?;
        }
        self.send(&wire).await?;
        loop {
            let packet = self.packet("sending the pack").await?;
            let Some(event) = response.packet(packet).map_err(|e| self.protocol(e))? else { continue };
            let done = event == FetchEvent::Done;
            sink.send(event).await.map_err(|_| TransportError::SinkClosed)?;
            if done {
                self.goodbye().await;
                return Ok(());
            }
        }
    }

    async fn greeting(&mut self, names: &[String]) -> Result<Advertisement, TransportError> {
        let mut reader = AdvertReader::new(false, names.to_vec());
        loop {
            let packet = self.packet("greeting").await?;
            if let Some(advertisement) = reader.packet(packet).map_err(|e| self.protocol(e))? {
                return Ok(advertisement);
            }
        }
    }

    /// Tells the server that nothing more comes. It may be gone already, which is as good.
    async fn goodbye(&mut self) {
        let mut flush = Vec::new();
        encode_flush(&mut flush);
        let _ = self.stream.write_all(&flush).await;
        let _ = self.stream.shutdown().await;
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), TransportError> {
        let sent = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        match tokio::time::timeout(STALL, sent).await {
            Ok(result) => result.map_err(|source| self.io("sending to", source)),
            Err(_) => Err(self.silent("taking the request")),
        }
    }

    async fn packet(&mut self, what: &'static str) -> Result<Packet, TransportError> {
        loop {
            if let Some(packet) = self.decoder.next_packet().map_err(|e| self.protocol(e))? {
                return Ok(packet);
            }
            let read = match tokio::time::timeout(STALL, self.stream.read(&mut self.buffer)).await {
                Ok(result) => result.map_err(|source| self.io("reading from", source))?,
                Err(_) => return Err(self.silent(what)),
            };
            if read == 0 {
                return Err(self.protocol(ProtocolError::UnexpectedEnd(what)));
            }
            self.decoder.push(&self.buffer[..read]);
        }
    }

    fn protocol(&self, source: ProtocolError) -> TransportError {
        TransportError::Protocol { address: self.address.clone(), source }
    }

    fn io(&self, what: &'static str, source: std::io::Error) -> TransportError {
        // A stream over SSH says more than that it ended.
        let source = match source.downcast::<crate::ssh::SshError>() {
            Ok(error) => return TransportError::Ssh(Box::new(error)),
            Err(source) => source,
        };
        TransportError::Io { what, address: self.address.clone(), source }
    }

    fn silent(&self, what: &'static str) -> TransportError {
        TransportError::Silent { what, address: self.address.clone(), limit: STALL }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::protocol::{ObjectId, encode_data};

    fn id() -> ObjectId {
        "1".repeat(40).parse().unwrap()
    }

    async fn against(server: Vec<u8>) -> Conversation<tokio::io::DuplexStream> {
        let (mine, mut theirs) = tokio::io::duplex(64 * 1024);
        theirs.write_all(&server).await.unwrap();
        tokio::spawn(async move {
            let mut sink = Vec::new();
            let _ = theirs.read_to_end(&mut sink).await;
        });
        Conversation::new(mine, "test".to_owned())
    }

    #[tokio::test]
    async fn refs_from_an_old_server() {
        let mut wire = Vec::new();
        encode_data(&mut wire, format!("{} HEAD\0shallow side-band-64k\n", id()).as_bytes());
        encode_flush(&mut wire);
        let refs = against(wire).await.refs(&["HEAD".to_owned()]).await.unwrap();
        assert_eq!(refs[0].id, id());
    }

    #[tokio::test]
    async fn an_answer_cut_short_is_an_error() {
        let mut wire = Vec::new();
        for line in ["version 2\n", "fetch=shallow\n"] {
            encode_data(&mut wire, line.as_bytes());
        }
        encode_flush(&mut wire);
        encode_data(&mut wire, b"packfile\n");
        encode_data(&mut wire, b"\x01PACK");
        let (mine, mut theirs) = tokio::io::duplex(64 * 1024);
        theirs.write_all(&wire).await.unwrap();
        theirs.shutdown().await.unwrap();
        let (sender, mut receiver) = mpsc::channel(8);
        let request = FetchRequest { wants: vec![id()], depth: Some(1), ..FetchRequest::default() };
        let fetching = Conversation::new(mine, "test".to_owned());
        let result = tokio::join!(fetching.fetch(&request, sender), async {
            while receiver.recv().await.is_some() {}
            drop(theirs);
        })
        .0;
        assert!(matches!(
            result,
            Err(TransportError::Protocol { source: ProtocolError::UnexpectedEnd(_), .. })
        ));
    }
}
