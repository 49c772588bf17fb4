//! `getsockopt(TCP_INFO)` in full: `struct tcp_info` as of Linux 6.18.

use std::os::fd::{AsFd, AsRawFd as _};

use anyhow::{Context as _, Result, ensure};
use bytemuck::{Pod, Zeroable};

/// `struct tcp_info` of linux/tcp.h. Times are microseconds unless the name says otherwise. Fields that the running
/// kernel does not fill are 0: ask [`TcpInfo::reaches`] for those that came late.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
#[expect(missing_docs, reason = "the names are the kernel's, without the prefix tcpi_")]
pub struct Raw {
    pub state: u8,
    pub ca_state: u8,
    pub retransmits: u8,
    pub probes: u8,
    pub backoff: u8,
    pub options: u8,
    pub wscales: u8,
    pub app_limited_and_fastopen: u8,
    pub rto: u32,
    pub ato: u32,
    pub snd_mss: u32,
    pub rcv_mss: u32,
    pub unacked: u32,
    pub sacked: u32,
    pub lost: u32,
    pub retrans: u32,
    pub fackets: u32,
    pub last_data_sent_ms: u32,
    pub last_ack_sent_ms: u32,
    pub last_data_recv_ms: u32,
    pub last_ack_recv_ms: u32,
    pub pmtu: u32,
    pub rcv_ssthresh: u32,
    pub rtt: u32,
    pub rttvar: u32,
    pub snd_ssthresh: u32,
    pub snd_cwnd: u32,
    pub advmss: u32,
    pub reordering: u32,
    pub rcv_rtt: u32,
    pub rcv_space: u32,
    pub total_retrans: u32,
    pub pacing_rate: u64,
    pub max_pacing_rate: u64,
    pub bytes_acked: u64,
    pub bytes_received: u64,
    pub segs_out: u32,
    pub segs_in: u32,
    pub notsent_bytes: u32,
    pub min_rtt: u32,
    pub data_segs_in: u32,
    pub data_segs_out: u32,
    pub delivery_rate: u64,
    pub busy_time: u64,
    pub rwnd_limited: u64,
    pub sndbuf_limited: u64,
    pub delivered: u32,
    pub delivered_ce: u32,
    pub bytes_sent: u64,
    pub bytes_retrans: u64,
    pub dsack_dups: u32,
    pub reord_seen: u32,
    pub rcv_ooopack: u32,
    pub snd_wnd: u32,
    pub rcv_wnd: u32,
    pub rehash: u32,
    pub total_rto: u16,
    pub total_rto_recoveries: u16,
    pub total_rto_time_ms: u32,
    pub received_ce: u32,
    pub delivered_e1_bytes: u32,
    pub delivered_e0_bytes: u32,
    pub delivered_ce_bytes: u32,
    pub received_e1_bytes: u32,
    pub received_e0_bytes: u32,
    pub received_ce_bytes: u32,
    pub accecn_fail_mode: u16,
    pub accecn_opt_seen: u16,
}

const _: () = assert!(size_of::<Raw>() == 280, "struct tcp_info of 6.18 is 280 bytes");
/// Up to `bytes_retrans`: every kernel from 4.19.
const LEAST_LEN: usize = std::mem::offset_of!(Raw, dsack_dups);

/// What the kernel said about a socket.
#[derive(Clone, Copy, Debug)]
pub struct TcpInfo {
    raw: Raw,
    len: usize,
}

impl std::ops::Deref for TcpInfo {
    type Target = Raw;
    fn deref(&self) -> &Raw {
        &self.raw
    }
}

impl TcpInfo {
    /// Ask the kernel about a TCP socket.
    ///
    /// # Errors
    /// When it is no TCP socket, or the kernel is older than 4.19.
    pub fn of(socket: impl AsFd) -> Result<Self> {
        let mut raw = Raw::zeroed();
        let mut len = size_of::<Raw>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `len` bytes to `raw`, for which every bit pattern is valid, and the length
        // it wrote to `len`; both live through the call.
        let result = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                (&raw mut raw).cast(),
                &raw mut len,
            )
        };
        if result != 0 {
            return Err(std::io::Error::last_os_error()).context("getsockopt(TCP_INFO) failed");
        }
        let len = len as usize;
        ensure!(len >= LEAST_LEN, "the kernel's struct tcp_info has only {len} bytes");
        Ok(Self { raw, len })
    }

    /// True when the running kernel fills a field; give its offset, `offset_of!(Raw, field)`, plus its size.
    #[must_use]
    pub fn reaches(&self, end: usize) -> bool {
        self.len >= end
    }

    /// Number of timeouts; `None` before Linux 6.7.
    #[must_use]
    pub fn total_rto(&self) -> Option<u16> {
        self.reaches(std::mem::offset_of!(Raw, total_rto) + 2).then_some(self.raw.total_rto)
    }

    /// The smallest round trip; `None` when the kernel never had a sample (it then says 2^32 − 1).
    #[must_use]
    pub fn min_rtt_us(&self) -> Option<u32> {
        (self.raw.min_rtt != u32::MAX).then_some(self.raw.min_rtt)
    }
}
