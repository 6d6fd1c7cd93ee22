//! The scenarios: real leases and real pins on a real kernel, and what lease-trace says about them.
//!
//! They run as root inside a guest, one at a time (`--test-threads=1`), because a tracer sees the
//! whole machine. `LEASE_TRACE` is the tool, `CLIENT` the actor that does what it is told, and
//! `LEASE_TRACE_ATTACH`, where set, how the tool must attach. One file is one noun. Scenarios under
//! `rdma::`, `enforce_rdma::` and `run_rdma::` need a userland with rdma-core and mkfs, under `btrfs::` and `nfsd::`
//! one with their tools besides, under `dax::` also memory that is set aside, under `vfio::` a
//! machine with an IOMMU and a device to spare, those under `lockdown::` a
//! kernel booted with `lockdown=confidentiality`, under `enforce_integrity::` one with
//! `lockdown=integrity`, under `enforce_without_lsm::` one without `bpf` in `lsm=`, those under
//! `enforce_first::` an actor as the first program, under `storm::` four processors, under `service::` and `package::` systemd, under
//! `prometheus::` a Prometheus, under `browser::` a Chromium, and under `top::` and `run_terminal::` a tmux; all others run
//! from an initramfs.
//!
//! What a kernel cannot do is not skipped by its version: the scenario asserts the very errno that
//! makes it impossible, and says so.

mod adversary;
mod bench;
mod book;
mod break_timeout;
mod browser;
mod btrfs;
mod context;
mod coverage;
mod crowd;
mod dax;
mod descriptors;
mod direct;
mod directory;
mod doctor;
mod enforce_attack;
mod enforce_bare;
mod enforce_cut_off;
mod enforce_first;
mod enforce_hold;
mod enforce_innocent;
mod enforce_integrity;
mod enforce_kept;
mod enforce_monitor;
mod enforce_orphaned;
mod enforce_proved;
mod enforce_rdma;
mod enforce_rules;
mod enforce_ways;
mod enforce_without_lsm;
mod files;
mod fork;
mod harness;
mod huge;
mod idle;
mod killed;
mod lease;
mod lockdown;
mod logs;
mod message;
mod metrics;
mod monitor;
mod namespace;
mod nfsd;
mod oracle;
mod orphan;
mod package;
mod path;
mod pid_namespace;
mod pin;
mod plot;
mod policy;
mod preemption;
mod prometheus;
mod proof;
mod rdma;
mod refusal;
mod report;
mod reuse;
mod ring;
mod run;
mod run_rdma;
mod run_terminal;
mod service;
mod span;
mod squatter;
mod storm;
mod survey;
mod survey_rdma;
mod survey_vfio;
mod table;
mod thread;
mod top;
mod udmabuf;
mod umem;
mod verifier;
mod vfio;
mod zombie;
