//! JSON's tokens, by the letter of RFC 8259: one value after another, without a tree.
//!
//! A text is checked to be UTF-8 once; from then on a string without escapes is a slice of it.

use crate::scan;
use crate::wire;
use std::borrow::Cow;

/// How deeply objects and arrays may nest.
pub(crate) const DEPTH_MAX: usize = wire::DEPTH_MAX;

/// Where a text stops being JSON, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Malformed {
    at: usize,
    why: &'static str,
}

impl Malformed {
    /// As a sentence with line and column, which count from 1, the column in bytes.
    pub(crate) fn describe(&self, text: &[u8]) -> String {
        let before = &text[..self.at.min(text.len())];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        let column = 1 + before.iter().rev().take_while(|byte| **byte != b'\n').count();
        format!("{} at line {line} column {column}", self.why)
    }
}

/// A value, or the beginning of one that holds others.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token<'j> {
    Null,
    Bool(bool),
    /// In JSON's own form.
    Number(&'j str),
    Text(Cow<'j, str>),
    /// `{` was read: [`Reader::key`] is next.
    Object,
    /// `[` was read: [`Reader::item`] is next.
    Array,
}

/// Reads tokens from front to back.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'j> {
    text: &'j str,
    at: usize,
    depth: usize,
}

impl<'j> Reader<'j> {
    pub(crate) fn new(bytes: &'j [u8]) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(bytes)
            .map_err(|error| Malformed { at: error.valid_up_to(), why: "it is not UTF-8" })?;
        Ok(Self { text, at: 0, depth: 0 })
    }

    /// Where the next value begins.
    pub(crate) fn position(&mut self) -> usize {
        self.skip_space();
        self.at
    }

    /// What was read since a position.
    pub(crate) fn since(&self, start: usize) -> &'j str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    fn malformed<T>(&self, why: &'static str) -> Result<T, Malformed> {
        let is_short = self.at >= self.text.len();
        Err(Malformed { at: self.at, why: if is_short { "it ends too soon" } else { why } })
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    #[inline]
    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// The next value, or its beginning.
    #[inline]
    pub(crate) fn value(&mut self) -> Result<Token<'j>, Malformed> {
        self.skip_space();
        match self.peek() {
            Some(b'"') => {
                self.at += 1;
                self.string().map(Token::Text)
            }
            Some(b'-' | b'0'..=b'9') => self.number().map(Token::Number),
            Some(b'{') => self.descend().map(|()| Token::Object),
            Some(b'[') => self.descend().map(|()| Token::Array),
            Some(b't') => self.literal("true", Token::Bool(true)),
            Some(b'f') => self.literal("false", Token::Bool(false)),
            Some(b'n') => self.literal("null", Token::Null),
            Some(_) | None => self.malformed("a value is expected"),
        }
    }

    fn descend(&mut self) -> Result<(), Malformed> {
        if self.depth == DEPTH_MAX {
            return self.malformed("it is nested deeper than 100");
        }
        self.depth += 1;
        self.at += 1;
        Ok(())
    }

    fn literal(&mut self, word: &str, token: Token<'j>) -> Result<Token<'j>, Malformed> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return self.malformed("a value is expected");
        }
        self.at += word.len();
        Ok(token)
    }

    /// The next key of an object, its colon read; none at the object's end. `is_first` is kept by the caller.
    #[inline]
    pub(crate) fn key(&mut self, is_first: &mut bool) -> Result<Option<Cow<'j, str>>, Malformed> {
        self.skip_space();
        match self.peek() {
            Some(b'}') => {
                self.at += 1;
                self.depth -= 1;
                return Ok(None);
            }
            Some(b',') if !*is_first => {
                self.at += 1;
                self.skip_space();
            }
            Some(_) | None if *is_first => {}
            Some(_) | None => return self.malformed("`,` or `}` is expected"),
        }
        *is_first = false;
        if self.peek() != Some(b'"') {
            return self.malformed("a key is expected");
        }
        self.at += 1;
        let key = self.string()?;
        self.skip_space();
        if self.peek() != Some(b':') {
            return self.malformed("`:` is expected");
        }
        self.at += 1;
        Ok(Some(key))
    }

    /// Whether an array has another item.
    #[inline]
    pub(crate) fn item(&mut self, is_first: &mut bool) -> Result<bool, Malformed> {
        self.skip_space();
        match self.peek() {
            Some(b']') => {
                self.at += 1;
                self.depth -= 1;
                return Ok(false);
            }
            Some(b',') if !*is_first => self.at += 1,
            Some(_) | None if *is_first => {}
            Some(_) | None => return self.malformed("`,` or `]` is expected"),
        }
        *is_first = false;
        Ok(true)
    }

    /// Reads what is left of a value whose beginning was read.
    pub(crate) fn skip_rest(&mut self, token: &Token<'_>) -> Result<(), Malformed> {
        let mut is_first = true;
        match token {
            Token::Object => {
                while self.key(&mut is_first)?.is_some() {
                    self.skip()?;
                }
            }
            Token::Array => {
                while self.item(&mut is_first)? {
                    self.skip()?;
                }
            }
            Token::Null | Token::Bool(_) | Token::Number(_) | Token::Text(_) => {}
        }
        Ok(())
    }

    /// Reads a value that nobody wants.
    pub(crate) fn skip(&mut self) -> Result<(), Malformed> {
        let token = self.value()?;
        self.skip_rest(&token)
    }

    /// Makes sure that nothing follows.
    pub(crate) fn end(&mut self) -> Result<(), Malformed> {
        self.skip_space();
        if self.at < self.text.len() {
            return self.malformed("something follows the value");
        }
        Ok(())
    }

    fn number(&mut self) -> Result<&'j str, Malformed> {
        let rest = &self.text.as_bytes()[self.at..];
        let Some(length) = scan::number_length(rest) else {
            return self.malformed("a number is not well-formed");
        };
        let start = self.at;
        self.at += length;
        Ok(&self.text[start..self.at])
    }

    /// A string whose opening quote was read.
    #[inline]
    fn string(&mut self) -> Result<Cow<'j, str>, Malformed> {
        let start = self.at;
        self.at = scan::plain_until(self.text.as_bytes(), start);
        match self.peek() {
            Some(b'"') => {
                let text = &self.text[start..self.at];
                self.at += 1;
                Ok(Cow::Borrowed(text))
            }
            Some(b'\\') => self.unescape(start).map(Cow::Owned),
            Some(_) | None => self.malformed("a string holds a control character"),
        }
    }

    /// A string that has its first escape here.
    fn unescape(&mut self, start: usize) -> Result<String, Malformed> {
        let mut text = self.text[start..self.at].to_owned();
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => {
                    self.at += 1;
                    text.push(self.escape()?);
                }
                Some(_) | None => return self.malformed("a string holds a control character"),
            }
            let from = self.at;
            self.at = scan::plain_until(self.text.as_bytes(), from);
            text.push_str(&self.text[from..self.at]);
        }
    }

    fn escape(&mut self) -> Result<char, Malformed> {
        let character = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.code_point();
            }
            Some(_) | None => return self.malformed("an escape is unknown"),
        };
        self.at += 1;
        Ok(character)
    }

    fn code_point(&mut self) -> Result<char, Malformed> {
        let first = self.code_unit()?;
        let code = match first {
            0xd800..=0xdbff => {
                if !self.text.as_bytes()[self.at..].starts_with(b"\\u") {
                    return self.malformed("half of a surrogate pair stands alone");
                }
                self.at += 2;
                let second = self.code_unit()?;
                if !(0xdc00..=0xdfff).contains(&second) {
                    return self.malformed("half of a surrogate pair stands alone");
                }
                0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)
            }
            _ => first,
        };
        match char::from_u32(code) {
            Some(character) => Ok(character),
            None => self.malformed("half of a surrogate pair stands alone"),
        }
    }

    fn code_unit(&mut self) -> Result<u32, Malformed> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4).unwrap_or_default();
        let mut code = 0;
        for digit in digits {
            let Some(value) = char::from(*digit).to_digit(16) else {
                return self.malformed("an escape has no four hexadecimal digits");
            };
            code = code << 4 | value;
        }
        if digits.len() < 4 {
            self.at = self.text.len();
            return self.malformed("it ends too soon");
        }
        self.at += 4;
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Result<(), Malformed> {
        let mut reader = Reader::new(text)?;
        reader.skip()?;
        reader.end()
    }

    #[test]
    fn r23_json_is_taken_by_its_grammar_alone_and_nests_at_most_100_deep() {
        for text in [
            "{}",
            "[]",
            " [ 1 , -0 , 0.5e-3 , 1E+2 ] ",
            "null",
            "\"\"",
            "{\"a\":{\"b\":[{}]}}",
            "\t\r\n true",
            "\"\u{7f}é😀\"",
            "\"\\u0000\\\"\\/\"",
            "1e999",
        ] {
            assert_eq!(read(text.as_bytes()), Ok(()), "`{text}`");
        }
        for text in [
            "",
            " ",
            "{",
            "[",
            "[1,]",
            "{\"a\":1,}",
            "[,1]",
            "{,}",
            "{a:1}",
            "{'a':1}",
            "{\"a\" 1}",
            "{\"a\":}",
            "[1 2]",
            "01",
            "-",
            "-01",
            "1.",
            ".5",
            "+1",
            "1e",
            "1e+",
            "0x1",
            "NaN",
            "Infinity",
            "tru",
            "truex",
            "nul",
            "\"",
            "\"\\",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u12g4\"",
            "\"\\ud800\"",
            "\"\\ud800\\n\"",
            "\"\\ud800\\u0041\"",
            "\"\\udc00\"",
            "\"\n\"",
            "1 2",
            "{}{}",
            "[]]",
            "\u{feff}{}",
            "//\n1",
            "\u{a0}1",
            "{\"a\":1]",
            "[1}",
        ] {
            assert!(read(text.as_bytes()).is_err(), "`{text}` was accepted");
        }
        assert!(read(b"\"\xff\"").is_err() && read(b"\"\xed\xa0\x80\"").is_err());
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(read(nested(DEPTH_MAX).as_bytes()), Ok(()));
        assert!(read(nested(DEPTH_MAX + 1).as_bytes()).is_err());
        assert!(read("[".repeat(1 << 20).as_bytes()).is_err());
    }

    #[test]
    fn strings_are_unescaped_and_otherwise_borrowed() {
        let text = r#"["plain", "\b\f\n\r\t\/\\\"", "a\u00e9b\uD83D\ude00c", "longer than eight, \u0041nd more than sixteen"]"#;
        let mut reader = Reader::new(text.as_bytes()).expect("UTF-8");
        let mut strings = Vec::new();
        assert_eq!(reader.value(), Ok(Token::Array));
        let mut is_first = true;
        while reader.item(&mut is_first).expect("an array") {
            if let Ok(Token::Text(text)) = reader.value() {
                strings.push((matches!(text, Cow::Borrowed(_)), text.into_owned()));
            }
        }
        let expected = [
            (true, "plain"),
            (false, "\u{8}\u{c}\n\r\t/\\\""),
            (false, "aéb😀c"),
            (false, "longer than eight, And more than sixteen"),
        ];
        assert_eq!(strings, expected.map(|(borrowed, text)| (borrowed, text.to_owned())));
    }

    #[test]
    fn an_error_says_where() {
        let text = b"{\n  \"a\": x}";
        let malformed = read(text).expect_err("no value");
        assert_eq!(malformed.describe(text), "a value is expected at line 2 column 8");
        assert_eq!(
            read(b"[1").expect_err("cut").describe(b"[1"),
            "it ends too soon at line 1 column 3"
        );
    }
}
