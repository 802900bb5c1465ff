//! Messages made anew: out of one coding and codec, into others. What needs none of this never comes here.

use bytes::Bytes;
use rpc::Error;

use crate::fault::Fault;
use crate::protocols::coding::Coding;
use crate::protocols::coding::WORTH_BYTES_MIN;
use crate::protocols::frame;
use crate::protocols::frame::Frame;
use crate::protocols::method::Message;

/// What becomes of each message.
#[derive(Debug)]
pub(crate) struct Remake {
    /// The coding of compressed messages as they come.
    pub(crate) read: Coding,
    /// Bytes of a message, decompressed.
    pub(crate) bytes_max: usize,
    pub(crate) translation: Translation,
    /// The coding of messages as they leave, if they are worth it.
    pub(crate) write: Coding,
}

/// Between the codecs.
#[derive(Debug)]
pub(crate) enum Translation {
    /// Both sides speak protobuf.
    None,
    /// A client's JSON to a service's protobuf.
    FromJson(Message),
    /// And back.
    ToJson(Message),
}

impl Remake {
    /// A message without its frame, and whether it is compressed now.
    pub(crate) fn message(&self, frame: Frame) -> Result<(Bytes, bool), Fault> {
        let is_compressed = frame.flags & frame::COMPRESSED != 0;
        let message = if is_compressed {
            self.read.decompress(&frame.message, self.bytes_max)?
        } else {
            frame.message
        };
        let message = match &self.translation {
            Translation::None => message,
            Translation::FromJson(input) => input.read_json(&message)?,
            Translation::ToJson(output) => {
                output.write_json(&message).map_err(|error| Fault::from(Error::internal(&error)))?
            }
        };
        if self.write == Coding::Identity || message.len() < WORTH_BYTES_MIN {
            return Ok((message, false));
        }
        Ok((self.write.compress(&message), true))
    }

    /// The same, in a frame.
    pub(crate) fn frame(&self, frame: Frame) -> Result<Bytes, Fault> {
        let (message, is_compressed) = self.message(frame)?;
        Ok(frame::encode(u8::from(is_compressed), &message))
    }
}
