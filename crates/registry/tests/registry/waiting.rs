//! What mostly waits for leases to end runs side by side, or the suite would take twice as long.

use crate::{calls, records, server::Kind};

pub(crate) async fn all_that_waits(kind: Kind) {
    tokio::join!(
        calls::leases_end(kind),
        records::announcements_come_and_go(kind),
        records::announcements_survive_losses(kind),
    );
}
