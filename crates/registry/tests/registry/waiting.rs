//! What mostly waits for leases to end runs side by side, or the suite would take twice as long.

use crate::{calls, election, records, scorecards, server::Kind};

pub(crate) async fn all_that_waits(kind: Kind) {
    tokio::join!(
        calls::leases_end(kind),
        records::announcements_come_and_go(kind),
        records::announcements_survive_losses(kind),
        election::another_leads_after_a_death(kind),
        election::no_leader_without_a_registry(kind),
        election::never_two(kind),
        scorecards::gone_with_their_router(kind),
    );
}
