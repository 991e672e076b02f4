use std::time::Duration;

use understudy_protocol::v1::{Pinning, ResidencyState};

use crate::{
    fake_router::{FakeRouter, worker},
    run::run,
};

#[tokio::test]
async fn set_waits_until_every_version_is_ready() {
    let fake = FakeRouter::start().await;
    let later = fake.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        later.state().workers = vec![worker(
            "analyst-1",
            &[("v1", ResidencyState::Ready, ""), ("v2", ResidencyState::Ready, "")],
        )];
    });
    let ran = run(
        fake.url(),
        &[
            "route",
            "set",
            "sentiment",
            "stable=v1",
            "canary=v2:10",
            "--pinning",
            "denied",
        ],
    )
    .await;
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (0, "sentiment answers: stable=v1 90%, canary=v2 10% (epoch 2)\n"),
        "{ran:?}"
    );
    assert_eq!(
        fake.state().workers[0].worker.as_ref().unwrap().versions.len(),
        2,
        "it did not wait"
    );
    let ran = run(fake.url(), &["route", "set", "sentiment", "v1", "--json"]).await;
    assert_eq!(ran.json()["pinning"], "PINNING_DENIED", "kept: {ran:?}");
    assert_eq!(
        fake.state().models["sentiment"].route.as_ref().unwrap().pinning(),
        Pinning::Denied
    );
}

#[tokio::test]
async fn a_version_that_cannot_be_loaded_ends_the_wait_with_its_reason() {
    let fake = FakeRouter::start().await;
    let failed = ("v2", ResidencyState::Failed, "model.safetensors holds NaN");
    fake.state().workers = vec![worker("analyst-1", &[("v1", ResidencyState::Ready, ""), failed])];
    let ran = run(fake.url(), &["route", "set", "sentiment", "v2"]).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.stderr
            .contains("sentiment/v2 cannot be loaded: analyst-1: model.safetensors holds NaN"),
        "{ran:?}"
    );
    assert!(ran.stderr.contains("what answered before goes on answering"), "{ran:?}");
    let ran = run(fake.url(), &["route", "set", "sentiment", "v2", "--timeout", "300ms"]).await;
    assert!(ran.code == 1 && ran.stderr.contains("after 300 ms"), "{ran:?}");
}

#[tokio::test]
async fn mistakes_are_found_before_anything_changes() {
    let fake = FakeRouter::start().await;
    for (arguments, code, said) in [
        (
            &["sentiment", "v9"][..],
            1,
            "there is no version v9 of sentiment: choose one of v1, v2",
        ),
        (&["nobody", "v1"], 1, "there is no model nobody"),
        (&["sentiment", "a=v1:90", "b=v2:20"], 1, "the weights sum to 110%"),
        (&["sentiment", "a=v1:ninety"], 2, "is no weight"),
        (
            &["sentiment", "v2", "--expect-epoch", "7"],
            1,
            "`understudy route show`, then try again",
        ),
    ] {
        let ran = run(fake.url(), &[&["route", "set"], arguments].concat()).await;
        assert!(ran.code == code && ran.stderr.contains(said), "{arguments:?}: {ran:?}");
    }
    assert_eq!(fake.state().models["sentiment"].route.as_ref().unwrap().epoch, 1);
    let ran = run(fake.url(), &["route", "show"]).await;
    assert!(
        ran.stdout.contains("stable") && ran.stdout.contains("1 worker"),
        "{ran:?}"
    );
    let ran = run(fake.url(), &["route", "show", "sentiment", "--json"]).await;
    assert_eq!(ran.json()["route"]["arms"][0]["weightPpm"], 1_000_000, "{ran:?}");
}
