//! How records look: lists of plain values stand on one line, or a sketch would fill screens, and thrice the bytes.

/// Shortens indented JSON.
pub(super) fn shorten(json: &str) -> String {
    let mut short = String::with_capacity(json.len());
    let mut rest = json;
    while let Some((before, list, after)) = next_plain_list(rest) {
        short.push_str(before);
        short.push('[');
        for (index, value) in list.lines().map(str::trim).filter(|line| !line.is_empty()).enumerate() {
            short.push_str(if index == 0 { "" } else { " " });
            short.push_str(value);
        }
        short.push(']');
        rest = after;
    }
    short.push_str(rest);
    short
}

/// What stands before, within and after the first list that holds neither lists nor objects.
fn next_plain_list(json: &str) -> Option<(&str, &str, &str)> {
    let (mut quoted, mut escaped, mut opened) = (false, false, None);
    for (at, byte) in json.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'[' => opened = Some(at),
            b'{' => opened = None,
            b']' => {
                if let Some(start) = opened {
                    return Some((&json[..start], &json[start + 1..at], &json[at + 1..]));
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::shorten;

    #[test]
    fn only_lists_of_plain_values() {
        let json = r#"{
  "a": [
    1,
    "x, [y\"]",
    -2
  ],
  "b": [
    {
      "c": [
        "z"
      ]
    },
    {}
  ],
  "d": [],
  "e]": "["
}"#;
        let expected = r#"{
  "a": [1, "x, [y\"]", -2],
  "b": [
    {
      "c": ["z"]
    },
    {}
  ],
  "d": [],
  "e]": "["
}"#;
        assert_eq!(shorten(json), expected);
    }
}
