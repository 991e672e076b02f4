//! One suite for the embedded registry and for a real etcd: what the components rely on must hold on both.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a step that fails is a test that fails"
)]

mod calls;
mod commits;
mod durability;
mod election;
mod etcdctl;
mod records;
mod scorecards;
mod server;
mod tls;
mod waiting;
mod watches;

use server::Kind;

macro_rules! on_both {
    ($($module:ident :: $test:ident,)*) => {
        mod embedded {
            $(#[tokio::test] async fn $test() { super::$module::$test(super::Kind::Embedded).await; })*
        }
        mod etcd {
            $(#[tokio::test] async fn $test() { super::$module::$test(super::Kind::Etcd).await; })*
        }
    };
}

on_both! {
    calls::reading_and_writing,
    calls::range_options,
    calls::transactions,
    calls::leases,
    watches::from_any_revision,
    watches::many_on_one_stream,
    watches::compaction_under_a_watch,
    durability::acknowledged_writes_survive_sigkill,
    durability::follower_catches_up_after_an_outage,
    durability::restored_cluster_with_a_lower_revision,
    records::compare_and_swap,
    records::concurrent_increments_lose_nothing,
    records::corrupt_records_keep_the_last_good,
    commits::all_or_nothing,
    commits::rollouts_are_followed,
    commits::compaction_under_rollouts,
    election::one_leads_and_hands_over,
    election::stale_leaders_write_nothing,
    election::lost_seats_are_noticed,
    scorecards::written_and_removed,
    waiting::all_that_waits,
    etcdctl::reads_and_writes,
    etcdctl::leases_and_watches,
    etcdctl::asks_for_the_state,
}

/// The embedded registry as a process of its own, so that SIGKILL is real. Started by [`server::Server`].
#[test]
#[ignore = "not a test: the embedded registry as a process, started by the others"]
fn embedded_server() {
    server::embedded_main();
}
