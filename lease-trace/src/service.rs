//! The service manager's protocol (sd_notify(3)): that the monitor is ready, what it is doing, that
//! it makes progress; and descriptors in its keeping, so that held files outlive a restart of the
//! monitor. Where no service manager listens (no NOTIFY_SOCKET), all of it does nothing.

use std::{
    env, io,
    os::fd::{AsFd as _, FromRawFd as _, OwnedFd},
    time::Duration,
};

use sd_notify::NotifyState;

/// A descriptor that the service manager kept while no monitor ran, and the name it kept it under.
#[derive(Debug)]
pub struct Handed {
    pub name: String,
    pub file: OwnedFd,
}

/// This process as its service manager sees it.
pub struct Service {
    watched: Option<Duration>,
    status: String,
    handed: Vec<Handed>,
}

impl Service {
    /// Whatever the environment says. To be called once, before anything is opened: the
    /// descriptors handed over are those with the lowest numbers.
    pub fn find() -> Self {
        Self {
            watched: sd_notify::watchdog_enabled(),
            status: String::new(),
            handed: handed_over().unwrap_or_else(|error| {
                log::warn!("cannot take what the service manager kept: {error}");
                Vec::new()
            }),
        }
    }

    /// What was handed over; it is the caller's from here on.
    pub fn take_handed(&mut self) -> Vec<Handed> {
        std::mem::take(&mut self.handed)
    }

    /// How often [`Self::alive`] must be called at least, if at all: twice in the time after which
    /// the service manager takes this process for stuck.
    pub fn pulse(&self) -> Option<Duration> {
        self.watched.map(|time| time / 2)
    }

    /// Everything is attached, or taken over.
    pub fn ready(&mut self, status: String) {
        tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
        self.status = status;
    }

    /// The event loop has been around once more, and this is what it knows.
    pub fn alive(&mut self, status: String) {
        if self.watched.is_some() {
            tell(&[NotifyState::Watchdog]);
        }
        if self.status != status {
            tell(&[NotifyState::Status(&status)]);
            self.status = status;
        }
    }

    /// The end has begun.
    pub fn stopping(&mut self) {
        tell(&[NotifyState::Stopping]);
        self.watched = None;
    }
}

/// Where descriptors outlive this process; nowhere, unless [`Store::of_manager`] finds something.
#[derive(Clone, Copy, Debug, Default)]
pub struct Store(bool);

impl Store {
    /// That of the service manager, if there is one.
    pub fn of_manager() -> Self {
        Self(env::var_os("NOTIFY_SOCKET").is_some())
    }

    pub const fn keeps(self) -> bool {
        self.0
    }

    /// Gives a duplicate of each file into the store. One that is there already stays there once,
    /// under its first name.
    pub fn keep(self, name: &str, files: &[OwnedFd]) {
        if !self.0 {
            return;
        }
        for file in files {
            let state = [NotifyState::FdStore, NotifyState::FdName(name)];
            if let Err(error) = sd_notify::notify_with_fds(&state, &[file.as_fd()]) {
                log::warn!("cannot give {name} to the service manager: {error}");
            }
        }
    }

    /// Has the store let go of what it has under this name.
    pub fn forget(self, name: &str) {
        if self.0 {
            tell(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]);
        }
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        log::warn!("cannot tell the service manager: {error}");
    }
}

fn handed_over() -> io::Result<Vec<Handed>> {
    let descriptors = sd_notify::listen_fds_with_names()?;
    Ok(descriptors
        .map(|(descriptor, name)| Handed {
            name,
            // SAFETY: LISTEN_PID says that these descriptors were opened for this very process
            // before it began, and `sd_notify` has seen that they are open; nobody but the one
            // call of `Service::find` takes them.
            file: unsafe { OwnedFd::from_raw_fd(descriptor) },
        })
        .collect())
}

#[cfg(test)]
pub mod service_tests;
