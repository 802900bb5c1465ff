//! The text form of gRPC-Web: base64, in pieces that are padded one by one. What is sent is padded where a frame ends, so that
//! a client can decode all that it has at any time.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use rpc::Error;

use crate::fault::Fault;
use crate::protocols::frame::Scan;

/// Characters that stand for three bytes.
const GROUP: usize = 4;

/// Reads base64 that is cut and padded anywhere between its groups.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// A group whose rest is still to come.
    partial: Vec<u8>,
}

impl Decoder {
    /// The bytes of all groups that are whole.
    pub(crate) fn decode(&mut self, chunk: &[u8]) -> Result<Bytes, Fault> {
        let mut bytes = Vec::with_capacity((self.partial.len() + chunk.len()) / GROUP * 3);
        let mut chunk = chunk;
        if !self.partial.is_empty() {
            let missing = (GROUP - self.partial.len()).min(chunk.len());
            self.partial.extend_from_slice(&chunk[..missing]);
            chunk = &chunk[missing..];
            if self.partial.len() < GROUP {
                return Ok(Bytes::new());
            }
            decode_into(&self.partial, &mut bytes)?;
            self.partial.clear();
        }
        let (mut whole, rest) = chunk.split_at(chunk.len() - chunk.len() % GROUP);
        while let Some(padding) = whole.iter().position(|byte| *byte == b'=') {
            let (padded, after) = whole.split_at((padding / GROUP + 1) * GROUP);
            decode_into(padded, &mut bytes)?;
            whole = after;
        }
        decode_into(whole, &mut bytes)?;
        self.partial.extend_from_slice(rest);
        Ok(bytes.into())
    }

    /// Refuses a body that ends within a group.
    pub(crate) fn finish(&self) -> Result<(), Fault> {
        if self.partial.is_empty() { Ok(()) } else { Err(malformed()) }
    }
}

fn decode_into(text: &[u8], bytes: &mut Vec<u8>) -> Result<(), Fault> {
    STANDARD.decode_vec(text, bytes).map_err(|_| malformed())
}

fn malformed() -> Fault {
    Error::malformed("the body is not base64").into()
}

/// Writes chunks of frames, padded at the end of each frame.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    scan: Scan,
    /// Up to two bytes that make no group yet.
    partial: Vec<u8>,
}

impl Encoder {
    /// The text of a chunk; less than three bytes of it may be held back until more of their frame comes.
    pub(crate) fn encode(&mut self, mut chunk: &[u8]) -> Bytes {
        let mut text = String::with_capacity(chunk.len().div_ceil(3) * GROUP + GROUP);
        while !chunk.is_empty() {
            let step = self.scan.step(chunk);
            let (piece, after) = chunk.split_at(step.taken);
            self.append(piece, &mut text);
            if step.ended {
                STANDARD.encode_string(&self.partial, &mut text);
                self.partial.clear();
            }
            chunk = after;
        }
        text.into()
    }

    fn append(&mut self, mut piece: &[u8], text: &mut String) {
        if !self.partial.is_empty() {
            let missing = (3 - self.partial.len()).min(piece.len());
            self.partial.extend_from_slice(&piece[..missing]);
            piece = &piece[missing..];
            if self.partial.len() < 3 {
                return;
            }
            STANDARD.encode_string(&self.partial, text);
            self.partial.clear();
        }
        let (whole, rest) = piece.split_at(piece.len() - piece.len() % 3);
        STANDARD.encode_string(whole, text);
        self.partial.extend_from_slice(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    use crate::protocols::frame;

    fn cut<'b>(mut rest: &'b [u8], lengths: &[usize]) -> Vec<&'b [u8]> {
        let mut pieces = Vec::new();
        for length in lengths.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*length).min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        pieces
    }

    proptest! {
        /// R33, in both directions.
        #[test]
        fn frames_survive_the_text_form_however_they_are_cut(
            messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..30), 0..5),
            cuts in proptest::collection::vec(1_usize..17, 1..30),
        ) {
            let frames: Vec<_> = messages.iter().map(|message| frame::encode(0, message)).collect();
            let whole = frames.concat();
            let mut encoder = Encoder::default();
            let text: Vec<_> =
                cut(&whole, &cuts).into_iter().map(|piece| encoder.encode(piece)).collect();
            let text = text.concat();
            // Each frame is base64 of its own.
            let each: String = frames.iter().map(|frame| STANDARD.encode(frame)).collect();
            prop_assert_eq!(std::str::from_utf8(&text).expect("text"), each);
            let mut decoder = Decoder::default();
            let mut bytes = Vec::new();
            for piece in cut(&text, &cuts) {
                bytes.extend_from_slice(&decoder.decode(piece).expect("base64"));
            }
            prop_assert!(decoder.finish().is_ok());
            prop_assert_eq!(bytes, whole);
        }

        #[test]
        fn junk_never_panics(text in proptest::collection::vec(any::<u8>(), 0..50), at in 0_usize..50) {
            let mut decoder = Decoder::default();
            let (one, two) = text.split_at(at.min(text.len()));
            drop(decoder.decode(one).and_then(|_| decoder.decode(two)));
        }
    }

    #[test]
    fn what_is_no_base64_is_refused() {
        for text in [&b"AAA"[..], b"A===", b"!!!!", b"AA=A", b"====", b"AAA\n"] {
            let mut decoder = Decoder::default();
            let refused = decoder.decode(text).is_err() || decoder.finish().is_err();
            assert!(refused, "{text:?}");
        }
    }
}
