//! Cuts a body into the messages of a stream: the items of a JSON array, one JSON text a line, or bytes.
//!
//! What must stay true: wherever the body's chunks were cut, the pieces are the same; each byte is looked at once; and no more is
//! kept than one piece that is not whole yet. Whether a piece is JSON is found out by whoever reads it.

use crate::lexer::DEPTH_MAX;
use crate::scan;
use bytes::Buf as _;
use bytes::Bytes;
use bytes::BytesMut;

/// How the pieces stand in the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `[item, item]`.
    Array,
    /// One a line; empty lines are none.
    Lines,
    /// Whatever arrives at once is a piece, unless it is too long for one.
    Raw,
}

/// Why a body can't be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Uncut {
    /// It is no array, or nests too deeply.
    Malformed(&'static str),
    /// A piece has more bytes than it may.
    TooLong,
}

/// Cuts pieces out of chunks.
#[derive(Debug)]
pub(crate) struct Cutter {
    kind: Kind,
    piece_bytes_max: usize,
    /// The beginning of a piece whose end is still to come.
    partial: BytesMut,
    /// What comes behind it, and was not looked at.
    rest: Bytes,
    state: State,
    item: Item,
}

/// Where in an array the next byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Before,
    /// Behind `[`: an item is next, or the end.
    Opened,
    /// Behind `,`: an item is next.
    Separated,
    Item,
    After,
}

/// Where in an item the next byte is.
#[derive(Debug, Clone, Copy, Default)]
struct Item {
    is_in_string: bool,
    is_after_backslash: bool,
    depth: usize,
}

impl Cutter {
    /// No piece may have more than `piece_bytes_max` bytes; of raw bytes it makes as many pieces as it takes.
    pub(crate) fn new(kind: Kind, piece_bytes_max: usize) -> Self {
        Self {
            kind,
            piece_bytes_max,
            partial: BytesMut::new(),
            rest: Bytes::new(),
            state: State::Before,
            item: Item::default(),
        }
    }

    /// Takes a chunk. All pieces before it have been taken out.
    pub(crate) fn push(&mut self, chunk: Bytes) {
        debug_assert!(self.rest.is_empty(), "what was whole is taken out first");
        self.rest = chunk;
    }

    /// The next piece that is whole; none until more arrives.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, Uncut> {
        match self.kind {
            Kind::Array => self.next_item(),
            Kind::Lines => self.next_line(),
            Kind::Raw if self.rest.is_empty() => Ok(None),
            Kind::Raw => {
                let length = self.rest.len().min(self.piece_bytes_max);
                Ok(Some(self.rest.split_to(length)))
            }
        }
    }

    /// The last piece, once nothing more arrives and [`Cutter::next`] has no more.
    pub(crate) fn finish(&mut self) -> Result<Option<Bytes>, Uncut> {
        match self.kind {
            Kind::Raw => Ok(None),
            Kind::Lines => Ok(trimmed(self.partial.split().freeze())),
            // No body at all is a stream without a message.
            Kind::Array if matches!(self.state, State::Before | State::After) => Ok(None),
            Kind::Array => Err(Uncut::Malformed("it ends too soon")),
        }
    }

    fn next_line(&mut self) -> Result<Option<Bytes>, Uncut> {
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line = self.take(end)?;
            self.rest.advance(1);
            if let Some(line) = trimmed(line) {
                return Ok(Some(line));
            }
        }
        self.keep_rest()?;
        Ok(None)
    }

    fn next_item(&mut self) -> Result<Option<Bytes>, Uncut> {
        self.skip_to_item()?;
        if self.state != State::Item {
            return Ok(None);
        }
        let Some(end) = self.item.end(&self.rest)? else {
            self.keep_rest()?;
            return Ok(None);
        };
        let item = self.take(end)?;
        self.state = if self.rest[0] == b',' { State::Separated } else { State::After };
        self.rest.advance(1);
        Ok(Some(item))
    }

    /// Passes over what stands between items.
    fn skip_to_item(&mut self) -> Result<(), Uncut> {
        let mut at = 0;
        while self.state != State::Item
            && let Some(byte) = self.rest.get(at)
        {
            match (self.state, byte) {
                (_, b' ' | b'\t' | b'\r' | b'\n') => {}
                (State::Before, b'[') => self.state = State::Opened,
                (State::Before, _) => return Err(Uncut::Malformed("an array is expected")),
                (State::Opened, b']') => self.state = State::After,
                (State::Opened | State::Separated, b',' | b']') => {
                    return Err(Uncut::Malformed("a value is expected"));
                }
                (State::Opened | State::Separated, _) => {
                    self.state = State::Item;
                    break;
                }
                (State::After, _) => return Err(Uncut::Malformed("something follows the array")),
                (State::Item, _) => break,
            }
            at += 1;
        }
        self.rest.advance(at);
        Ok(())
    }

    /// The piece that ends before `end`. If it lies in one chunk, it is not copied.
    fn take(&mut self, end: usize) -> Result<Bytes, Uncut> {
        if self.partial.len() + end > self.piece_bytes_max {
            return Err(Uncut::TooLong);
        }
        let last = self.rest.split_to(end);
        if self.partial.is_empty() {
            return Ok(last);
        }
        self.partial.extend_from_slice(&last);
        Ok(self.partial.split().freeze())
    }

    fn keep_rest(&mut self) -> Result<(), Uncut> {
        if self.partial.len() + self.rest.len() > self.piece_bytes_max {
            return Err(Uncut::TooLong);
        }
        self.partial.extend_from_slice(&std::mem::take(&mut self.rest));
        Ok(())
    }
}

impl Item {
    /// Where the item ends in the bytes that follow those seen before: the place of `,` or `]` behind it.
    fn end(&mut self, bytes: &[u8]) -> Result<Option<usize>, Uncut> {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            if self.is_after_backslash {
                self.is_after_backslash = false;
            } else if self.is_in_string {
                at = scan::plain_until(bytes, at);
                match bytes.get(at) {
                    Some(b'"') => self.is_in_string = false,
                    Some(b'\\') => self.is_after_backslash = true,
                    Some(_) | None => {}
                }
            } else {
                match byte {
                    b'"' => self.is_in_string = true,
                    b'{' | b'[' if self.depth == DEPTH_MAX => {
                        return Err(Uncut::Malformed("it nests deeper than 100"));
                    }
                    b'{' | b'[' => self.depth += 1,
                    b'}' | b']' if self.depth > 0 => self.depth -= 1,
                    b',' | b']' => {
                        if self.depth == 0 {
                            return Ok(Some(at));
                        }
                    }
                    _ => {}
                }
            }
            at += 1;
        }
        Ok(None)
    }
}

/// A line without the space around its text; none if there is nothing else in it.
fn trimmed(line: Bytes) -> Option<Bytes> {
    let is_text = |byte: &u8| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let start = line.iter().position(is_text)?;
    let end = line.iter().rposition(is_text)?;
    Some(line.slice(start..=end))
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    const PIECE_BYTES_MAX: usize = 64;

    /// The pieces of a body that arrives in these chunks, and how it ends.
    fn cut(kind: Kind, chunks: &[&[u8]]) -> (Vec<Bytes>, Result<(), Uncut>) {
        let mut cutter = Cutter::new(kind, PIECE_BYTES_MAX);
        let mut pieces = Vec::new();
        let mut read = || {
            for chunk in chunks {
                cutter.push(Bytes::copy_from_slice(chunk));
                while let Some(piece) = cutter.next()? {
                    pieces.push(piece);
                }
                assert!(cutter.rest.is_empty() && cutter.partial.len() <= PIECE_BYTES_MAX);
            }
            pieces.extend(cutter.finish()?);
            Ok(())
        };
        let ended = read();
        (pieces, ended)
    }

    #[test]
    fn a_piece_that_lies_in_one_chunk_is_not_copied() {
        for (kind, body, start) in [
            (Kind::Array, &b"[{\"a\":1}]"[..], 1),
            (Kind::Lines, b"{\"a\":1}\n", 0),
            (Kind::Raw, b"abc", 0),
        ] {
            let chunk = Bytes::from_static(body);
            let mut cutter = Cutter::new(kind, PIECE_BYTES_MAX);
            cutter.push(chunk.clone());
            let piece = cutter.next().expect("it is good").expect("a piece");
            assert_eq!(piece.as_ptr(), chunk[start..].as_ptr(), "{kind:?}");
        }
    }

    #[test]
    fn r23_what_nests_deeper_than_100_is_refused_as_soon_as_it_does() {
        let mut cutter = Cutter::new(Kind::Array, 1 << 20);
        cutter.push(Bytes::from("[".repeat(1 + DEPTH_MAX)));
        assert_eq!(cutter.next(), Ok(None));
        cutter.push(Bytes::from_static(b"["));
        assert_eq!(cutter.next(), Err(Uncut::Malformed("it nests deeper than 100")));
        let mut flat = Cutter::new(Kind::Array, 1 << 20);
        flat.push(Bytes::from(format!("[\"{}\"]", "[".repeat(1_000))));
        assert!(flat.next().is_ok_and(|item| item.is_some()), "brackets in a string are text");
    }

    #[test]
    fn a_piece_may_have_as_many_bytes_as_its_limit_and_not_one_more() {
        let text = |length: usize| "1".repeat(length);
        for (kind, around) in [(Kind::Array, ("[", "]")), (Kind::Lines, ("", "\n"))] {
            let body = |length| format!("{}{}{}", around.0, text(length), around.1);
            let (pieces, ended) = cut(kind, &[body(PIECE_BYTES_MAX).as_bytes()]);
            assert_eq!((pieces.len(), ended), (1, Ok(())), "{kind:?}");
            let long = body(PIECE_BYTES_MAX + 1);
            assert_eq!(cut(kind, &[long.as_bytes()]).1, Err(Uncut::TooLong), "{kind:?}");
            let bytes: Vec<&[u8]> = long.as_bytes().chunks(1).collect();
            assert_eq!(cut(kind, &bytes).1, Err(Uncut::TooLong), "{kind:?}");
        }
        let (pieces, ended) = cut(Kind::Raw, &[&[0; 2 * PIECE_BYTES_MAX + 1]]);
        let lengths: Vec<usize> = pieces.iter().map(Bytes::len).collect();
        assert_eq!((lengths, ended), (vec![PIECE_BYTES_MAX, PIECE_BYTES_MAX, 1], Ok(())));
    }

    /// JSON, or what is nearly that: brackets, escapes and space in all places.
    fn body() -> impl Strategy<Value = Vec<u8>> {
        let value = prop_oneof![
            "[ ]{0,2}\\{\"[a\\[\\]{},:]{0,6}(\\\\[\"\\\\nu])?\": ?[0-9]{1,3}\\}[ \\t]{0,2}",
            "\"([a-c\\[\\]{},]|\\\\\"|\\\\\\\\){0,8}\"",
            "\\[(1,?){0,3}\\]",
            "[0-9tfn-]{1,4}",
            "[\\[\\]{},:\"\\\\ \\r\\n\\x00a\\x80-\\xff]{0,8}",
        ];
        let array = (proptest::collection::vec(value.clone(), 0..6), ", ?", "[ \\n\\]x]{0,2}")
            .prop_map(|(items, comma, end)| format!(" [{}]{end}", items.join(&comma)));
        let lines = (proptest::collection::vec(value, 0..6), "\\r?\\n{1,2}")
            .prop_map(|(items, end)| items.join(&end));
        prop_oneof![array, lines].prop_map(String::into_bytes)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_body_may_be_cut_anywhere(body in body(), lengths in proptest::collection::vec(1..12_usize, 1..8)) {
            for kind in [Kind::Array, Kind::Lines] {
                let whole = cut(kind, &[&body]);
                let bytes: Vec<&[u8]> = body.chunks(1).collect();
                prop_assert_eq!(&cut(kind, &bytes), &whole, "{:?} byte by byte", kind);
                let mut chunks = Vec::new();
                let mut rest = &body[..];
                for length in lengths.iter().cycle() {
                    if rest.is_empty() {
                        break;
                    }
                    let (chunk, after) = rest.split_at((*length).min(rest.len()));
                    chunks.push(chunk);
                    rest = after;
                }
                prop_assert_eq!(&cut(kind, &chunks), &whole, "{:?} in chunks", kind);
            }
            let raw = cut(Kind::Raw, &body.chunks(lengths[0]).collect::<Vec<_>>()).0;
            prop_assert_eq!(raw.concat(), body);
        }

        /// The oracle reads the array as a whole.
        #[test]
        fn the_items_of_an_array_are_those_that_a_parser_finds(values in proptest::collection::vec(json(), 0..6), pretty: bool) {
            let write = if pretty { serde_json::to_vec_pretty } else { serde_json::to_vec };
            let body = write(&values).expect("JSON");
            let mut cutter = Cutter::new(Kind::Array, 1 << 20);
            let mut items: Vec<serde_json::Value> = Vec::new();
            for chunk in body.chunks(7) {
                cutter.push(Bytes::copy_from_slice(chunk));
                while let Some(item) = cutter.next().expect("an array") {
                    items.push(serde_json::from_slice(&item).expect("a value"));
                }
            }
            prop_assert_eq!(cutter.finish(), Ok(None));
            prop_assert_eq!(items, values);
        }
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            "[\\[\\]{},\"\\\\a\\n\u{e9}]{0,8}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let list = proptest::collection::vec(inner.clone(), 0..4);
            let object = proptest::collection::btree_map("[\\[\\]{},\"\\\\a]{0,4}", inner, 0..4);
            prop_oneof![
                list.prop_map(serde_json::Value::from),
                object.prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }
}
