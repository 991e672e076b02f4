use super::*;
use rand::SeedableRng as _;

fn material() -> Material {
    let word = |index: usize| {
        let letter = |n: usize| char::from(b'a' + u8::try_from(n % 26).unwrap());
        [
            letter(index),
            letter(index / 26),
            letter(index / 7),
            letter(index / 3),
            letter(index / 5),
        ]
        .iter()
        .collect::<String>()
    };
    let review = |n: usize| {
        let words: Vec<_> = (0..12).map(|k| word(n % 150 + k)).collect();
        format!("The {}. And so on!", words.join(" "))
    };
    Material::from_reviews(&(0..3000).map(review).collect::<Vec<_>>()).unwrap()
}

#[test]
fn what_the_grammar_writes_is_grounded() {
    let material = material();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut wrong = Vec::new();
    let mut claims = 0;
    for _ in 0..400 {
        let example = example(&material, &mut rng).unwrap();
        let report = check(&example.answer, &example.sheet);
        claims += report.claims.len();
        wrong.extend(report.complaints());
    }
    assert!(claims > 400 * 15, "{claims}");
    // The check reads English as well as a program can: a chance word may look like a comparison to it.
    assert!(wrong.len() * 200 < claims, "{}", wrong.join("\n"));
}

#[test]
fn a_seed_gives_one_text_and_another_seed_another() {
    let material = material();
    let write = |seed| example(&material, &mut ChaCha8Rng::seed_from_u64(seed)).unwrap().answer;
    assert_eq!(write(5), write(5));
    assert_ne!(write(5), write(6));
}

#[test]
fn revisions_carry_a_draft_and_complaints() {
    let material = material();
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let revised = (0..200)
        .map(|_| example(&material, &mut rng).unwrap())
        .find(|example| example.messages.len() == 4)
        .unwrap();
    assert!(revised.messages[3].content.contains("does not support"));
    assert_ne!(revised.messages[2].content, revised.answer);
}
