use understudy_protocol::v1::ResidencyState;

use crate::{
    fake_router::{FakeRouter, worker},
    run::run,
};

#[tokio::test]
async fn well_is_zero_and_ill_is_one() {
    let fake = FakeRouter::start().await;
    let ran = run(fake.url(), &["status"]).await;
    assert!(ran.code == 0 && ran.stdout.contains("everything works"), "{ran:?}");
    let failed = ("v2", ResidencyState::Failed, "digest mismatch");
    fake.state().workers = vec![worker("analyst-1", &[failed])];
    let problems = async || {
        let ran = run(fake.url(), &["status", "--json"]).await;
        assert_eq!(ran.code, 1, "{ran:?}");
        let problems = ran.json()["problems"].as_array().unwrap().clone();
        problems
            .iter()
            .map(|problem| problem["what"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let broken = "worker analyst-1 cannot load sentiment/v2: digest mismatch";
    assert_eq!(
        problems().await,
        [broken, "arm stable of sentiment: no worker has v1 ready"]
    );
    fake.state().disconnected = true;
    let away = "the router cannot reach the registry, and serves from what it last knew";
    assert_eq!(problems().await, [away, broken]);
    fake.state().disconnected = false;
    fake.state().workers.clear();
    let ran = run(fake.url(), &["status"]).await;
    assert!(
        ran.code == 1 && ran.stdout.contains("no worker is there to serve sentiment"),
        "{ran:?}"
    );
    let ran = run("http://127.0.0.1:1", &["status", "--json"]).await;
    assert_eq!((ran.code, &ran.json()["router"]["serving"]), (1, &false.into()));
}
