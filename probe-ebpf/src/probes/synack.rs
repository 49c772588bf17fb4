//! Which clients did not hear our SYN-ACK? tp_btf/tcp_retransmit_synack.
//!
//! Also for requests that never become connections: a record each, bounded by the listeners' backlogs (a request
//! beyond them gets a SYN cookie and is never sent again).

use aya_ebpf::{EbpfContext as _, macros::btf_tracepoint, programs::BtfTracePointContext};
use probe_common::{
    ABI_VERSION,
    loss::Loss,
    record::{SynackRecord, kind},
    tcp::state::LISTEN,
};

use crate::{
    emit::wake_up,
    kernel::{Request, read_arg, state_of, storage_get},
    maps::{STATES, count, ring},
};

#[btf_tracepoint(function = "tcp_retransmit_synack")]
#[expect(clippy::needless_pass_by_value, reason = "the macro passes its context so")]
pub(crate) fn synack(ctx: BtfTracePointContext) -> Option<()> {
    let sk = read_arg(ctx.as_ptr(), 0);
    let request = Request::new(read_arg(ctx.as_ptr(), 1));
    if state_of(sk) != LISTEN {
        // A Fast Open child stands in for the listener and counts the SYN-ACK as its own (tcp_rtx_synack).
        if let Some(trouble) = storage_get(&STATES, sk).and_then(|flow| flow.in_trouble(sk)) {
            trouble.retrans_synack = trouble.retrans_synack.wrapping_add(1);
        }
    }
    let ring = ring()?;
    let Some(mut entry) = ring.reserve_untyped::<SynackRecord>(0) else {
        count(Loss::RingFullSynack);
        return None;
    };
    // SAFETY: the entry is memory for one such record, and all of it is written here.
    let record = unsafe { &mut *entry.as_mut_ptr() };
    record.abi = ABI_VERSION;
    record.kind = kind::SYNACK;
    record.pad = 0;
    record.pad2 = 0;
    request.describe(sk, record);
    entry.submit(wake_up(ring));
    Some(())
}
