//! From a model's bytes to text that can be sent (pure).
//!
//! Invariants: what comes out is whole characters; a stop string never comes out, also when it came in pieces; what
//! cannot be UTF-8 becomes U+FFFD. At most the longest stop string's bytes are held back.

use encoding_rs::{Decoder, UTF_8};

/// The text of one generation.
pub struct Text {
    decoder: Decoder,
    stops: Vec<String>,
    held: String,
    stopped: bool,
}

impl Text {
    /// A text that ends before the first of `stops`. Empty ones are ignored.
    #[must_use]
    pub fn new(mut stops: Vec<String>) -> Self {
        stops.retain(|stop| !stop.is_empty());
        Self {
            decoder: UTF_8.new_decoder_without_bom_handling(),
            stops,
            held: String::new(),
            stopped: false,
        }
    }

    /// Takes the bytes of the next token and gives what can be sent, which may be nothing.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.decode(bytes, false);
        let ready = self
            .find_stop()
            .unwrap_or_else(|| self.held.len() - self.possible_stop());
        self.take(ready)
    }

    /// A stop string came: nothing more comes out.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// No more tokens come: gives what was held back.
    pub fn finish(&mut self) -> String {
        self.decode(&[], true);
        let ready = self.find_stop().unwrap_or(self.held.len());
        self.take(ready)
    }

    fn decode(&mut self, bytes: &[u8], last: bool) {
        if self.stopped {
            return;
        }
        if let Some(most) = self.decoder.max_utf8_buffer_length(bytes.len()) {
            self.held.reserve(most);
            // All of it is read, since all of it has room.
            let _ = self.decoder.decode_to_string(bytes, &mut self.held, last);
        }
    }

    fn find_stop(&mut self) -> Option<usize> {
        // The one that was complete first, so that it does not matter how the text came in pieces.
        let places = self
            .stops
            .iter()
            .filter_map(|stop| Some((self.held.find(stop.as_str())?, stop.len())));
        let (first, _) = places.min_by_key(|&(begin, length)| (begin + length, begin))?;
        self.stopped = true;
        Some(first)
    }

    /// Bytes at the end that may be the beginning of a stop string.
    fn possible_stop(&self) -> usize {
        let beginning = |stop: &String| {
            (1..stop.len())
                .rev()
                .find(|&length| stop.is_char_boundary(length) && self.held.ends_with(&stop[..length]))
        };
        self.stops.iter().filter_map(beginning).max().unwrap_or(0)
    }

    fn take(&mut self, ready: usize) -> String {
        if ready == self.held.len() && !self.stopped {
            return std::mem::take(&mut self.held);
        }
        let rest = self.held.split_off(ready);
        let text = std::mem::replace(&mut self.held, rest);
        if self.stopped {
            self.held.clear();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(stops: &[&str], pieces: &[&[u8]]) -> (Vec<String>, bool) {
        let mut text = Text::new(stops.iter().map(|stop| (*stop).to_owned()).collect());
        let mut out = Vec::new();
        for piece in pieces {
            out.push(text.push(piece));
            if text.stopped() {
                return (out, true);
            }
        }
        out.push(text.finish());
        (out, text.stopped())
    }

    #[test]
    fn characters_are_whole() {
        let (out, _) = all(&[], &[b"a\xe2", b"\x82", b"\xac", b"\xf0\x9f\x98", b"\x80"]);
        assert_eq!(out, ["a", "", "€", "", "😀", ""]);
        assert_eq!(
            all(&[], &[b"a\xff\xc3(", b"\xe2\x82"]).0,
            ["a\u{fffd}\u{fffd}(", "", "\u{fffd}"]
        );
    }

    #[test]
    fn no_part_of_a_stop_string_comes_out() {
        assert_eq!(
            all(&["END"], &[b"one E", b"N", b"D two"]),
            (vec!["one ".into(), String::new(), String::new()], true)
        );
        assert_eq!(
            all(&["END"], &[b"E", b"N", b"G"]),
            (vec![String::new(), String::new(), "ENG".into(), String::new()], false)
        );
        assert_eq!(all(&["END"], &[b"E"]), (vec![String::new(), "E".into()], false));
        // The first in the text, not in the list; of two that overlap, the one that is complete first.
        assert_eq!(all(&["abc", "b"], &[b"xabc"]).0, ["xa"]);
        assert_eq!(all(&["b", "a"], &[b"xab"]).0, ["x"]);
        // A stop string of characters that came in pieces.
        assert_eq!(all(&["€"], &[b"1\xe2\x82", b"\xac2"]).0, ["1", ""]);
        assert_eq!(all(&[""], &[b"1"]).0, ["1", ""]);
    }

    proptest! {
        #[test]
        fn cutting_changes_nothing(text in "[ab€]{0,40}", stops in prop::collection::vec("[ab€]{1,4}", 0..3), cut in 1usize..5) {
            let places = stops.iter().filter_map(|stop| Some((text.find(stop.as_str())?, stop.len())));
            let end = places.min_by_key(|&(begin, length)| (begin + length, begin)).map(|place| place.0);
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(cut).collect();
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let (out, stopped) = all(&stops, &pieces);
            prop_assert_eq!(out.concat(), &text[..end.unwrap_or(text.len())]);
            prop_assert_eq!(stopped, end.is_some());
        }
    }
}
