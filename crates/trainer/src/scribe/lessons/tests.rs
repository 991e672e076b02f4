use super::*;
use crate::scribe::{random, tokenizer};

/// Reviews of invented words, each often enough to be called distinctive.
pub(crate) fn reviews() -> Vec<String> {
    let word = |n: usize| -> String {
        [n, n / 26, n / 7, n / 3, n / 5]
            .iter()
            .map(|n| char::from(b'a' + u8::try_from(n % 26).unwrap()))
            .collect()
    };
    (0..3000)
        .map(|n| {
            let words: Vec<String> = (0..12).map(|k| word(n % 150 + k)).collect();
            format!("The {}. And so on, {n} times!", words.join(" "))
        })
        .collect()
}

#[test]
fn lessons_go_from_copying_to_whole_critiques() {
    let reviews = reviews();
    let material = Material::from_reviews(&reviews).unwrap();
    let tokenizer = tokenizer::tests::tokenizer();
    let school = School {
        material: &material,
        reviews: &reviews,
        tokenizer: &tokenizer,
    };
    let at = |progress: f64| -> Vec<String> {
        (0..60)
            .map(|stream| {
                let lesson = school.lesson(progress, &mut random(1, stream)).unwrap();
                assert!(lesson.answer < lesson.ids.len());
                tokenizer.decode(&lesson.ids).unwrap()
            })
            .collect()
    };
    let share = |texts: &[String], part: &str| {
        texts.iter().filter(|text| text.contains(part)).count() as f64 / texts.len() as f64
    };
    let (first, middle, last) = (at(0.0), at(0.5), at(0.9));
    assert!(share(&first, "Write them again.") > 0.8);
    assert!(share(&middle, "Write a critique") > 0.7 && share(&middle, "You are a critic") < 0.5);
    assert!(share(&last, "You are a critic") > 0.7);
    assert_eq!(at(0.5), middle, "the seed decides");
    let other: Vec<_> = (0..60)
        .map(|stream| school.lesson(0.5, &mut random(2, stream)).unwrap().ids)
        .collect();
    assert!(
        other
            .iter()
            .zip(&middle)
            .any(|(ids, text)| tokenizer.decode(ids).unwrap() != *text)
    );
}

#[test]
fn what_is_to_be_copied_stands_in_the_question() {
    let reviews = reviews();
    let material = Material::from_reviews(&reviews).unwrap();
    let tokenizer = tokenizer::tests::tokenizer();
    let school = School {
        material: &material,
        reviews: &reviews,
        tokenizer: &tokenizer,
    };
    let sheet = "Facts:\n- share of good reviews: 54.1%\n- mean length: 1,204 words\nQuotations:\n- good (0.91): \"So: it is.\"\n";
    let lesson = school.copying(sheet, &mut random(1, 0)).unwrap();
    let answer = tokenizer.decode(&lesson.ids[lesson.answer..]).unwrap();
    let known = [
        "The share of good reviews is 54.1%.",
        "The mean length is 1,204 words.",
        "One good review says \"So: it is.\"",
    ];
    let left = known
        .iter()
        .fold(answer.clone(), |text, sentence| text.replacen(sentence, "", 1));
    assert!(!answer.is_empty() && left.trim().is_empty(), "{answer:?}");
}
