//! gRPC's frames (a flag, a length of four bytes, the message), which gRPC-Web and Connect share: found in chunks that are cut
//! anywhere, without a copy unless a message lies in more than one.

use bytes::Buf as _;
use bytes::BufMut as _;
use bytes::Bytes;
use bytes::BytesMut;
use proto::common::v1::ErrorReason;
use rpc::Error;
use tonic::Code;

use crate::fault::Fault;

/// Flag and length before a message.
pub(crate) const HEAD_BYTES: usize = 5;
/// The message is compressed.
pub(crate) const COMPRESSED: u8 = 1;
/// Connect: the last frame of an answer.
pub(crate) const END_OF_STREAM: u8 = 2;
/// gRPC-Web: the trailers of an answer.
pub(crate) const TRAILERS: u8 = 0x80;

/// A frame: its flags and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) flags: u8,
    pub(crate) message: Bytes,
}

/// A message under its head.
pub(crate) fn encode(flags: u8, message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).expect("what is read is bounded far below 4 GiB");
    let mut frame = BytesMut::with_capacity(HEAD_BYTES + message.len());
    frame.put_u8(flags);
    frame.put_u32(length);
    frame.put_slice(message);
    frame.freeze()
}

/// What a client's frames may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// Bytes of a message as it is sent.
    pub(crate) bytes_max: usize,
    /// Whether the client named a coding, so that messages may be compressed.
    pub(crate) may_be_compressed: bool,
}

impl Rules {
    fn check(self, flags: u8, length: u32) -> Result<(), Fault> {
        if flags > COMPRESSED {
            let what = "the first byte of a frame is 0, or 1 for a compressed one";
            return Err(malformed(what));
        }
        if flags == COMPRESSED && !self.may_be_compressed {
            // The code that gRPC's specification of compression asks for.
            let what = "a message is marked as compressed, and no coding was named";
            return Err(Error::new(Code::Internal, ErrorReason::Malformed, what).into());
        }
        if length as usize > self.bytes_max {
            return Err(Fault::body_too_large(self.bytes_max));
        }
        Ok(())
    }
}

fn malformed(what: &str) -> Fault {
    Error::malformed(format!("the body is not made of messages: {what}")).into()
}

/// Follows frames through chunks that pass as they are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scan {
    head: [u8; HEAD_BYTES],
    /// Bytes of the head that were seen; all of them while a message passes.
    filled: usize,
    /// Bytes of the message still to come.
    left: usize,
    /// Frames that have begun.
    pub(crate) frames: usize,
}

/// One step of a [`Scan`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// Bytes of the chunk that were looked at.
    pub(crate) taken: usize,
    /// The head that they completed: flags and length.
    pub(crate) head: Option<(u8, u32)>,
    /// Whether a frame ended with them.
    pub(crate) ended: bool,
}

impl Scan {
    /// Takes the rest of a head, or of a message, from a chunk that is not empty.
    pub(crate) fn step(&mut self, chunk: &[u8]) -> Step {
        if self.filled == HEAD_BYTES {
            let taken = self.left.min(chunk.len());
            self.left -= taken;
            return Step { taken, head: None, ended: self.end_if_over() };
        }
        let taken = (HEAD_BYTES - self.filled).min(chunk.len());
        self.head[self.filled..self.filled + taken].copy_from_slice(&chunk[..taken]);
        self.filled += taken;
        if self.filled < HEAD_BYTES {
            return Step { taken, head: None, ended: false };
        }
        let [flags, length @ ..] = self.head;
        let length = u32::from_be_bytes(length);
        self.left = length as usize;
        self.frames += 1;
        Step { taken, head: Some((flags, length)), ended: self.end_if_over() }
    }

    fn end_if_over(&mut self) -> bool {
        let is_over = self.left == 0;
        if is_over {
            self.filled = 0;
        }
        is_over
    }

    /// Whether the chunks so far end where a frame does.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.filled == 0
    }

    /// Follows a client's chunk, and refuses what is against the rules.
    pub(crate) fn check(&mut self, mut chunk: &[u8], rules: Rules) -> Result<(), Fault> {
        while !chunk.is_empty() {
            let step = self.step(chunk);
            if let Some((flags, length)) = step.head {
                rules.check(flags, length)?;
            }
            chunk = &chunk[step.taken..];
        }
        Ok(())
    }

    /// Refuses a body that ends within a frame.
    pub(crate) fn finish(&self) -> Result<(), Fault> {
        if self.is_between_frames() { Ok(()) } else { Err(malformed("it ends within a frame")) }
    }
}

/// The one frame that a body is.
///
/// # Errors
/// UNIMPLEMENTED for none or several, which is the code for a wrong number of messages in gRPC and Connect alike; MALFORMED for
/// what is no frame.
pub(crate) fn single(body: &Bytes, rules: Rules) -> Result<Frame, Fault> {
    let mut scan = Scan::default();
    scan.check(body, rules)?;
    scan.finish()?;
    if scan.frames != 1 {
        let what = format!("the method takes one message, and there are {}", scan.frames);
        return Err(Error::new(Code::Unimplemented, ErrorReason::Malformed, what).into());
    }
    Ok(Frame { flags: body[0], message: body.slice(HEAD_BYTES..) })
}

/// Cuts frames out of chunks.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// The beginning of a frame whose rest is still to come.
    partial: BytesMut,
    /// What comes after it.
    rest: Bytes,
}

impl Frames {
    /// Takes a chunk. All frames before it have been taken out.
    pub(crate) fn push(&mut self, chunk: Bytes) {
        debug_assert!(self.rest.is_empty(), "what was whole is taken out first");
        self.rest = chunk;
    }

    /// The next frame that is whole, if `check` has nothing against its head.
    pub(crate) fn next<E>(
        &mut self,
        check: impl FnOnce(u8, u32) -> Result<(), E>,
    ) -> Result<Option<Frame>, E> {
        if !self.partial.is_empty() && !self.fill(HEAD_BYTES) {
            return Ok(None);
        }
        let head = if self.partial.is_empty() { &self.rest[..] } else { &self.partial[..] };
        let Some(&[flags, a, b, c, d]) = head.first_chunk() else {
            self.keep_rest();
            return Ok(None);
        };
        let length = u32::from_be_bytes([a, b, c, d]);
        check(flags, length)?;
        let whole = HEAD_BYTES + length as usize;
        if self.partial.is_empty() && self.rest.len() >= whole {
            self.rest.advance(HEAD_BYTES);
            let message = self.rest.split_to(length as usize);
            return Ok(Some(Frame { flags, message }));
        }
        if !self.fill(whole) {
            return Ok(None);
        }
        let mut frame = self.partial.split().freeze();
        frame.advance(HEAD_BYTES);
        Ok(Some(Frame { flags, message: frame }))
    }

    /// Whether nothing of a frame is kept.
    pub(crate) fn is_empty(&self) -> bool {
        self.partial.is_empty() && self.rest.is_empty()
    }

    /// Moves bytes to the partial frame until it has `wanted`; whether it has.
    fn fill(&mut self, wanted: usize) -> bool {
        let missing = wanted.saturating_sub(self.partial.len()).min(self.rest.len());
        self.partial.extend_from_slice(&self.rest.split_to(missing));
        self.partial.len() >= wanted
    }

    fn keep_rest(&mut self) {
        self.partial.extend_from_slice(&std::mem::take(&mut self.rest));
    }

    /// The next frame of a client.
    pub(crate) fn next_checked(&mut self, rules: Rules) -> Result<Option<Frame>, Fault> {
        self.next(|flags, length| rules.check(flags, length))
    }

    /// Refuses a body that ends within a frame.
    pub(crate) fn finish(&self) -> Result<(), Fault> {
        if self.is_empty() { Ok(()) } else { Err(malformed("it ends within a frame")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    const RULES: Rules = Rules { bytes_max: 4, may_be_compressed: true };

    fn reason(body: &[u8]) -> Option<String> {
        let fault = single(&Bytes::copy_from_slice(body), RULES).err()?;
        Some(tonic_types::StatusExt::get_details_error_info(&*fault.status)?.reason)
    }

    #[test]
    fn a_frame_that_is_not_one_whole_message_is_refused_with_its_reason() {
        assert_eq!(reason(&[0, 0, 0, 0, 2, 1, 1]), None);
        for malformed in [
            &[0, 0, 0, 0][..],
            &[2, 0, 0, 0, 0],
            &[0x80, 0, 0, 0, 0],
            &[0, 0, 0, 0, 2, 1],
            &[0, 0, 0, 0, 1, 1, 1],
        ] {
            assert_eq!(reason(malformed).as_deref(), Some("MALFORMED"), "{malformed:?}");
        }
        assert_eq!(reason(&[0, 0, 0, 0, 5, 1, 1, 1, 1, 1]).as_deref(), Some("BODY_TOO_LARGE"));
        assert_eq!(reason(&[0, 255, 255, 255, 255]).as_deref(), Some("BODY_TOO_LARGE"));
    }

    /// R41, which gRPC has too.
    #[test]
    fn no_message_or_two_for_a_method_that_takes_one_is_unimplemented() {
        for body in [&[][..], &[0; 10]] {
            let fault = single(&Bytes::copy_from_slice(body), RULES).expect_err("refused");
            assert_eq!(fault.status.code(), Code::Unimplemented, "{body:?}");
        }
    }

    #[test]
    fn a_compressed_message_without_a_coding_is_internal() {
        let rules = Rules { may_be_compressed: false, ..RULES };
        let fault = single(&Bytes::from_static(&[1, 0, 0, 0, 0]), rules).expect_err("refused");
        assert_eq!(fault.status.code(), Code::Internal);
    }

    fn frames_and_cuts() -> impl Strategy<Value = (Vec<Frame>, Vec<usize>)> {
        let message = proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
        let frame = (0_u8..4, message).prop_map(|(flags, message)| Frame { flags, message });
        (proptest::collection::vec(frame, 0..6), proptest::collection::vec(1_usize..20, 1..40))
    }

    /// The whole, cut into pieces of these lengths, over and over.
    fn cut(whole: &Bytes, lengths: &[usize]) -> Vec<Bytes> {
        let (mut pieces, mut rest) = (Vec::new(), whole.clone());
        for length in lengths.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            pieces.push(rest.split_to((*length).min(rest.len())));
        }
        pieces
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_they_are_cut((frames, cuts) in frames_and_cuts()) {
            let encoded: Vec<Bytes> =
                frames.iter().map(|frame| encode(frame.flags, &frame.message)).collect();
            let whole = Bytes::from(encoded.concat());
            let (mut cutter, mut scan, mut out, mut ended) =
                (Frames::default(), Scan::default(), Vec::new(), 0);
            for piece in cut(&whole, &cuts) {
                let mut chunk = &piece[..];
                while !chunk.is_empty() {
                    let step = scan.step(chunk);
                    ended += usize::from(step.ended);
                    chunk = &chunk[step.taken..];
                }
                cutter.push(piece);
                while let Some(frame) = cutter.next(|_, _| Ok::<_, ()>(())).expect("no rule") {
                    out.push(frame);
                }
            }
            prop_assert_eq!(out, frames.clone());
            prop_assert!(cutter.is_empty() && scan.is_between_frames());
            prop_assert_eq!((scan.frames, ended), (frames.len(), frames.len()));
        }
    }

    #[test]
    fn a_frame_that_lies_whole_in_its_chunk_is_not_copied() {
        let chunk = encode(0, b"as it is");
        let mut frames = Frames::default();
        frames.push(chunk.clone());
        let frame = frames.next(|_, _| Ok::<_, ()>(())).expect("no rule").expect("a frame");
        assert_eq!(frame.message.as_ptr(), chunk[HEAD_BYTES..].as_ptr());
    }
}
