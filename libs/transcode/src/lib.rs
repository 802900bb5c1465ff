//! transcode.
