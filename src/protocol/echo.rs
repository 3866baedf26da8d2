//! Echo, RFC 862: what comes in goes out.

use super::{Context, DatagramProtocol, EchoDatagrams, Peer, Protocol};

/// Sends back every byte: the least a server can do, and so the measure of everything around it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Echo;

impl Protocol for Echo {
    type Session = ();

    fn datagrams(&self) -> Option<Box<dyn DatagramProtocol>> {
        Some(Box::new(EchoDatagrams))
    }

    fn open(&mut self, _peer: &Peer, _cx: &mut Context<'_>) {}

    #[inline]
    fn received(&mut self, _session: &mut (), input: &[u8], cx: &mut Context<'_>) -> usize {
        cx.send_input(input.len());
        input.len()
    }
}
