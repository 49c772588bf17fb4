//! The machine: the only room that imports aya, reads BTF, /proc and /sys, and holds unsafe code.

pub mod btf;
pub mod cgroup;
pub mod clock;
pub mod hooks;
pub mod iterate;
pub mod netns;
pub mod netstat;
pub mod privilege;
pub mod probe;
pub mod release;
pub mod ring;
mod visits;
pub mod walk;
