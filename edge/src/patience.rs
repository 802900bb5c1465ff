//! Gives up on a client that takes nothing of what it is sent. The HTTP library would wait for ever, and with it the call
//! that is answered.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::time::Sleep;

/// A client's connection whose writes do not wait for ever.
#[derive(Debug)]
pub(crate) struct Patient<T> {
    io: T,
    wait_max: Duration,
    /// While a write waits.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<T> Patient<T> {
    /// Fails a write of which nothing is taken for `wait_max`.
    pub(crate) fn new(io: T, wait_max: Duration) -> Self {
        Self { io, wait_max, timer: None }
    }

    fn within_patience(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.timer = None;
            return written;
        }
        let wait_max = self.wait_max;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(wait_max)));
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Patient<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Patient<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(context, bytes);
        this.within_patience(context, written)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write_vectored(context, buffers);
        this.within_patience(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use tokio::io::AsyncReadExt as _;
    use tokio::io::AsyncWriteExt as _;

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_given_up_and_one_that_reads_gets_it_all() {
        let (mut client, server) = tokio::io::duplex(8);
        let mut server = Patient::new(server, Duration::from_secs(60));
        let mut taken = [0; 24];
        let (written, read) =
            tokio::join!(server.write_all(&[1; 24]), client.read_exact(&mut taken));
        written.unwrap();
        assert_eq!(read.unwrap(), 24);

        let mut server = Patient::new(server.io, Duration::from_millis(10));
        let error = server.write_all(&[1; 9]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
