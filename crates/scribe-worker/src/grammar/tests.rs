use std::time::{Duration, Instant};

use super::*;

fn matcher(grammar: &str) -> Matcher {
    Matcher::new(Grammar::parse(grammar).unwrap().into()).unwrap()
}

/// Whether the grammar describes the text, given one byte at a time and as a whole.
fn describes(grammar: &str, text: &str) -> bool {
    let mut whole = matcher(grammar);
    let as_whole = text.is_empty() || whole.allows(text.as_bytes()).unwrap();
    if as_whole && !text.is_empty() {
        assert!(whole.accept(text.as_bytes()).unwrap());
    }
    let mut bytes = matcher(grammar);
    let bytewise = text
        .bytes()
        .all(|byte| bytes.allows(&[byte]).unwrap() && bytes.accept(&[byte]).unwrap());
    assert_eq!(
        as_whole && whole.complete(),
        bytewise && bytes.complete(),
        "{grammar} {text}"
    );
    as_whole && whole.complete()
}

#[test]
fn texts_match_or_not() {
    let cases: [(&str, &[&str], &[&str]); 14] = [
        (r#"root ::= "yes" | "no""#, &["yes", "no"], &["", "ye", "yess", "on"]),
        (r#"root ::= "a"*"#, &["", "a", "aaaa"], &["b", "ab"]),
        (r#"root ::= "ab"+"#, &["ab", "abab"], &["", "aba"]),
        (r#"root ::= "a"? "b""#, &["ab", "b"], &["a", "aab"]),
        (r#"root ::= "a"{2,3}"#, &["aa", "aaa"], &["a", "aaaa"]),
        (r#"root ::= "a"{2}"#, &["aa"], &["a", "aaa"]),
        (r#"root ::= "a"{2,} "b""#, &["aab", "aaaaab"], &["ab"]),
        (
            r#"root ::= ("a" | "b" "c"){1,2}"#,
            &["a", "bc", "abc", "bca"],
            &["b", "aaa"],
        ),
        (r#"root ::= [a-c€é-]+"#, &["abc", "€", "é-"], &["d", "è"]),
        (r#"root ::= [^a-c\n] ."#, &["dé", "€\n"], &["ab", "d"]),
        (r#"root ::= "\x41\u00e9\U0001F600\"\\""#, &["Aé😀\"\\"], &["A"]),
        (
            "root ::= item (\",\" # and\n item)*\nitem ::=\n  [0-9]+ |\n  \"x\"\n",
            &["1", "12,x,3"],
            &["1,", ",1"],
        ),
        (r#"root ::= "(" root ")" | """#, &["", "()", "((()))"], &["(", "())"]),
        (
            "root ::= s\ns ::= \"a\" s \"b\" s |",
            &["", "ab", "aabbab"],
            &["ca", "aab"],
        ),
    ];
    for (grammar, yes, no) in cases {
        for text in yes {
            assert!(describes(grammar, text), "{grammar}: {text:?}");
        }
        for text in no {
            assert!(!describes(grammar, text), "{grammar}: {text:?}");
        }
    }
}

#[test]
fn characters_may_come_in_pieces() {
    let mut matcher = matcher("root ::= [€é] \"!\"");
    assert!(matcher.allows(b"\xe2").unwrap() && matcher.allows(b"\xc3").unwrap());
    // No euro sign begins so.
    assert!(!matcher.allows(b"\xe3").unwrap() && !matcher.allows(b"\xe2\x83").unwrap());
    assert!(!matcher.allows(b"\xff").unwrap() && !matcher.allows(b"\x82").unwrap() && !matcher.allows(b"").unwrap());
    assert!(matcher.accept(b"\xe2\x82").unwrap());
    assert!(!matcher.complete() && !matcher.allows(b"!").unwrap());
    assert!(matcher.accept(b"\xac!").unwrap());
    assert!(matcher.complete() && matcher.exhausted());
}

#[test]
fn what_is_not_utf8_is_refused() {
    for bytes in [
        &b"\xc1"[..],
        b"\xe0\x80",
        b"\xed\xa0",
        b"\xf0\x80",
        b"\xf4\x90",
        b"\xf5",
        b"\xe2a",
    ] {
        assert!(!matcher("root ::= .*").allows(bytes).unwrap(), "{bytes:x?}");
        assert!(!matcher("root ::= [a-z]*").allows(bytes).unwrap(), "{bytes:x?}");
    }
    for bytes in [&b"\xe0"[..], b"\xed\x9f", b"\xee", b"\xf0\x90", b"\xf4\x8f"] {
        assert!(matcher("root ::= .*").allows(bytes).unwrap(), "{bytes:x?}");
        assert!(!matcher("root ::= [a-z]*").allows(bytes).unwrap(), "{bytes:x?}");
    }
}

#[test]
fn refusing_changes_nothing() {
    let mut matcher = matcher("root ::= \"a\" [0-9]* \"b\"");
    assert!(!matcher.accept(b"ax").unwrap());
    let nodes = matcher.nodes.len();
    assert!(matcher.allows(b"a1234b").unwrap());
    assert_eq!(matcher.nodes.len(), nodes);
    assert!(matcher.accept(b"a1").unwrap() && matcher.accept(b"b").unwrap());
}

#[test]
fn bad_grammars_say_what_is_wrong() {
    for (grammar, problem) in [
        ("", "root"),
        ("a ::= \"x\"", "root"),
        ("root ::= b", "\"b\" is used and not defined"),
        ("root ::= \"a", "expected a character, found the end"),
        ("root ::= [a", "found the end"),
        ("root = \"a\"", "\"::=\""),
        ("root ::= (\"a\"", "\")\""),
        ("root ::= *", "repeat"),
        ("\n\nroot ::= \"\\q\"", "line 3"),
        ("root ::= \"\\x4\"", "2 hexadecimal"),
        ("root ::= [z-a]", "range"),
        ("root ::= \"a\"{3,2}", "most is less"),
        ("root ::= \"a\"{99999999999}", "at most 2000"),
        ("root ::= <[13]>", "tokens"),
        ("root ::= \"a\" )", "end of the line"),
        ("::= \"a\"", "name"),
    ] {
        let error = Grammar::parse(grammar).unwrap_err().to_string();
        assert!(error.contains(problem), "{grammar}: {error}");
    }
}

#[test]
fn bombs_are_refused_quickly() {
    let begun = Instant::now();
    let deep = format!("root ::= {}\"a\"{}", "(".repeat(30_000), ")".repeat(30_000));
    let nested = format!(
        "root ::= {}",
        (0..6).fold("\"a\"".to_owned(), |inner, _| format!("({inner}){{2000}}"))
    );
    let many = format!("root ::= {}", "\"a\"{0,2000} ".repeat(5000));
    let long = format!("root ::= \"{}\"", "a".repeat(70_000));
    for grammar in [&deep, &many, &long] {
        assert!(Grammar::parse(grammar).is_err());
    }
    // Repetitions of repetitions are rules, so they stay small.
    assert!(Matcher::new(Grammar::parse(&nested).unwrap().into()).is_ok());
    // Left recursion, plain and hidden behind what may be empty.
    for grammar in [
        "root ::= root \"a\" | \"b\"",
        "root ::= x root \"a\" | \"b\"\nx ::= y\ny ::= \"\"",
    ] {
        assert_eq!(
            Matcher::new(Grammar::parse(grammar).unwrap().into()).unwrap_err(),
            TooComplex
        );
    }
    // A rule that is only itself describes nothing, and that is found out.
    assert!(matcher("root ::= root").exhausted());
    // Twice as many stacks with each character.
    let mut ambiguous = matcher("root ::= s\ns ::= \"a\" s t | \"a\" t s | \"a\"\nt ::= \"a\" t s | \"a\" s t | \"a\"");
    let end = (0..64).map(|_| ambiguous.accept(b"a")).find(Result::is_err);
    assert_eq!(end, Some(Err(TooComplex)));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}
