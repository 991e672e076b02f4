use std::{net::SocketAddr, time::Instant};

use axum::{Router, extract::State, http::HeaderMap, routing::post};
use sha2::Digest as _;
use tokio::net::TcpListener;

use super::*;

const SECRET: &str = "s3cret";
const PACE: Pace = Pace {
    call_timeout: Duration::from_millis(500),
    first_delay: Duration::from_millis(10),
};

fn secrets(name: &str) -> Option<String> {
    (name == "HOOK_SECRET").then(|| SECRET.to_owned())
}

/// One call as it arrived.
#[derive(Debug, Clone)]
struct Arrival {
    headers: HeaderMap,
    body: String,
}

/// A receiver that answers with these statuses in turn, then with 200. 0: never.
#[derive(Clone)]
struct Receiver {
    address: SocketAddr,
    answers: Arc<Mutex<VecDeque<u16>>>,
    arrivals: Arc<Mutex<Vec<Arrival>>>,
}

impl Receiver {
    async fn start(answers: impl IntoIterator<Item = u16>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Self {
            address: listener.local_addr().unwrap(),
            answers: Arc::new(Mutex::new(answers.into_iter().collect())),
            arrivals: Arc::default(),
        };
        let routes = Router::new()
            .route("/hook", post(Self::receive))
            .with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        receiver
    }

    async fn receive(State(receiver): State<Self>, headers: HeaderMap, body: String) -> StatusCode {
        receiver.arrivals.lock().unwrap().push(Arrival { headers, body });
        let answer = receiver.answers.lock().unwrap().pop_front().unwrap_or(200);
        if answer == 0 {
            std::future::pending::<()>().await;
        }
        StatusCode::from_u16(answer).unwrap()
    }

    fn url(&self) -> String {
        format!("http://{}/hook?token=private", self.address)
    }

    fn count(&self) -> usize {
        self.arrivals.lock().unwrap().len()
    }

    async fn arrivals(&self, count: usize) -> Vec<Arrival> {
        let start = Instant::now();
        while self.count() < count {
            assert!(start.elapsed() < Duration::from_secs(10), "{} of {count}", self.count());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.arrivals.lock().unwrap().clone()
    }
}

fn transition(step: u32) -> v1::Transition {
    v1::Transition {
        rollout: 3,
        from: v1::Phase::Shadow.into(),
        to: v1::Phase::Shifting.into(),
        step,
        weight_ppm: 10_000,
        by: "controller r1".into(),
        ..v1::Transition::default()
    }
}

fn rollout(urls: &[String]) -> v1::Rollout {
    let webhook = |url: &String| v1::Webhook {
        url: url.clone(),
        secret_env: "HOOK_SECRET".into(),
    };
    let earlier = v1::Transition {
        rollout: 2,
        ..v1::Transition::default()
    };
    v1::Rollout {
        model: "sentiment".into(),
        number: 3,
        spec: Some(v1::RolloutSpec {
            stable: "v1".into(),
            candidate: "v2".into(),
            webhooks: urls.iter().map(webhook).collect(),
            ..v1::RolloutSpec::default()
        }),
        history: [earlier].into_iter().chain((0..100).map(transition)).collect(),
        ..v1::Rollout::default()
    }
}

fn header<'a>(arrival: &'a Arrival, name: &str) -> &'a str {
    arrival
        .headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

/// RFC 2104 by hand, for keys of at most a block.
fn hmac_by_hand(key: &[u8], text: &[u8]) -> String {
    let padded = |pad: u8| -> Vec<u8> { (0..64).map(|i| key.get(i).copied().unwrap_or(0) ^ pad).collect() };
    let inner = Sha256::digest([padded(0x36), text.to_vec()].concat());
    let outer = Sha256::digest([padded(0x5c), inner.to_vec()].concat());
    outer.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// RFC 4231, test cases 2 and 6.
#[test]
fn signatures() {
    let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    assert_eq!(sign(b"Jefe", b"what do ya want for nothing?"), expected);
    assert_eq!(hmac_by_hand(b"Jefe", b"what do ya want for nothing?"), expected);
    let long_key = sign(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First");
    assert_eq!(
        long_key,
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
    );
}

#[tokio::test]
async fn signed_and_complete() {
    let receiver = Receiver::start([]).await;
    let webhooks = Webhooks::with(PACE, secrets);
    let record = rollout(&[receiver.url()]);
    webhooks.send(&record, &transition(0));
    let arrival = receiver.arrivals(1).await.remove(0);
    let signature = format!("sha256={}", hmac_by_hand(SECRET.as_bytes(), arrival.body.as_bytes()));
    assert_eq!(header(&arrival, "understudy-signature"), signature);
    assert_eq!(header(&arrival, "understudy-delivery"), "sentiment/3/0");
    assert_eq!(header(&arrival, "content-type"), "application/json");
    let body: serde_json::Value = serde_json::from_str(&arrival.body).unwrap();
    let expected = serde_json::json!({
        "model": "sentiment", "stable": "v1", "candidate": "v2", "rollout": "3", "from": "PHASE_SHADOW",
        "to": "PHASE_SHIFTING", "step": 0, "weightPpm": 10_000, "by": "controller r1", "reason": "",
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn tried_again_where_that_may_help() {
    let receiver = Receiver::start([500, 0, 429, 503]).await;
    let webhooks = Webhooks::with(PACE, secrets);
    webhooks.send(&rollout(&[receiver.url()]), &transition(7));
    let arrivals = receiver.arrivals(5).await;
    for arrival in &arrivals {
        assert_eq!(header(arrival, DELIVERY), "sentiment/3/7");
        assert_eq!(arrival.body, arrivals[0].body);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(receiver.count(), 5, "200 is the end");
}

#[tokio::test]
async fn tried_again_until_somebody_listens() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = unused.local_addr().unwrap();
    drop(unused);
    let webhooks = Webhooks::with(PACE, secrets);
    webhooks.send(&rollout(&[format!("http://{address}/hook")]), &transition(0));
    tokio::time::sleep(Duration::from_millis(30)).await;
    let listener = TcpListener::bind(address).await.unwrap();
    let arrived = tokio::time::timeout(Duration::from_secs(5), listener.accept()).await;
    assert!(arrived.is_ok());
}

#[tokio::test]
async fn not_tried_again_where_it_is_useless() {
    let receiver = Receiver::start([400, 302]).await;
    let webhooks = Webhooks::with(PACE, secrets);
    let record = rollout(&[receiver.url()]);
    webhooks.send(&record, &transition(0));
    receiver.arrivals(1).await;
    webhooks.send(&record, &transition(1));
    let arrivals = receiver.arrivals(2).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(receiver.count(), 2);
    assert_eq!(header(&arrivals[1], DELIVERY), "sentiment/3/1");
}

#[tokio::test]
async fn given_up_after_the_last_try() {
    let receiver = Receiver::start([500; 100]).await;
    let pace = Pace {
        first_delay: Duration::from_millis(2),
        ..PACE
    };
    let webhooks = Webhooks::with(pace, secrets);
    webhooks.send(&rollout(&[receiver.url()]), &transition(0));
    receiver.arrivals(7).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(receiver.count(), 7, "the first and six more");
    assert!(webhooks.inner.queues().is_empty(), "no task is left");
}

#[tokio::test]
async fn nothing_unsigned_is_sent() {
    let receiver = Receiver::start([]).await;
    let webhooks = Webhooks::with(PACE, secrets);
    let mut record = rollout(&[receiver.url()]);
    for name in ["OTHER_SECRET", ""] {
        record.spec.as_mut().unwrap().webhooks[0].secret_env = name.into();
        webhooks.send(&record, &transition(0));
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(receiver.count(), 0);
    assert!(webhooks.inner.queues().is_empty());
}

#[tokio::test]
async fn in_order_and_each_address_for_itself() {
    let (hangs, works) = (Receiver::start([0; 100]).await, Receiver::start([500, 500]).await);
    let webhooks = Webhooks::with(PACE, secrets);
    let record = rollout(&[hangs.url(), works.url()]);
    let start = Instant::now();
    for step in 0..10 {
        webhooks.send(&record, &transition(step));
    }
    assert!(start.elapsed() < PACE.call_timeout, "the sender does not wait");
    let arrivals = works.arrivals(12).await;
    let steps: Vec<&str> = arrivals[2..].iter().map(|arrival| header(arrival, DELIVERY)).collect();
    let expected: Vec<String> = (0..10).map(|step| format!("sentiment/3/{step}")).collect();
    assert_eq!(steps, expected);
    assert!(hangs.count() <= 7, "still the first of its calls");
}

#[tokio::test]
async fn full_queues_lose_the_oldest() {
    let receiver = Receiver::start([0]).await;
    let webhooks = Webhooks::with(PACE, secrets);
    let record = rollout(&[receiver.url()]);
    webhooks.send(&record, &transition(0));
    receiver.arrivals(1).await;
    // The first hangs for its time; of the others the newest stay.
    for step in 1..100 {
        webhooks.send(&record, &transition(step));
    }
    let arrivals = receiver.arrivals(2 + QUEUE_MAX).await;
    let steps: Vec<&str> = arrivals[2..].iter().map(|arrival| header(arrival, DELIVERY)).collect();
    let expected: Vec<String> = (100 - QUEUE_MAX..100)
        .map(|step| format!("sentiment/3/{step}"))
        .collect();
    assert_eq!(steps, expected);
}

#[test]
fn logs_name_only_the_host() {
    assert_eq!(
        public("https://user:secret@hooks.example:8443/T0/B1?token=x"),
        "https://hooks.example:8443"
    );
    assert_eq!(public("nonsense"), "(no address)");
}
