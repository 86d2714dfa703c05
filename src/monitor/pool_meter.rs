//! The metrics of one pool of connections.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use metrics::{Key, KeyName, Label, SharedString};

use super::{
    Ledger, Monitor,
    meter::{
        self, CONFLICTS, CONNECT_ERRORS, CONNECTION_COUNT, CONNECTION_IDLE_MAX,
        CONNECTION_IDLE_MIN, CONNECTION_MAX, CREATE_TIME, PENDING_REQUESTS, TIMEOUTS, USE_TIME,
        WAIT_TIME,
    },
};

/// What a pool tells of itself.
pub(crate) struct PoolMeter {
    monitor: Arc<Monitor>,
    name: String,
    labels: Vec<Label>,
    idle: Key,
    used: Key,
    max: Key,
    idle_max: Key,
    idle_min: Key,
    pending: Key,
    timeouts: Key,
    create: Key,
    wait: Key,
    in_use: Key,
}

/// How many connections there are and may be.
pub(crate) struct Sample {
    pub(crate) idle: usize,
    pub(crate) used: usize,
    pub(crate) max: usize,
    pub(crate) idle_max: usize,
    pub(crate) idle_min: usize,
    pub(crate) pending: usize,
}

impl PoolMeter {
    pub(crate) fn new(monitor: Arc<Monitor>, name: String) -> PoolMeter {
        let labels = vec![
            Label::from_static_parts("db.system.name", "postgresql"),
            Label::new("db.client.connection.pool.name", SharedString::from(name.clone())),
        ];
        let key = |metric| Key::from_parts(KeyName::from_const_str(metric), labels.clone());
        let state = |state| {
            let state = Label::from_static_parts("db.client.connection.state", state);
            key(CONNECTION_COUNT).with_extra_labels(vec![state])
        };
        PoolMeter {
            idle: state("idle"),
            used: state("used"),
            max: key(CONNECTION_MAX),
            idle_max: key(CONNECTION_IDLE_MAX),
            idle_min: key(CONNECTION_IDLE_MIN),
            pending: key(PENDING_REQUESTS),
            timeouts: key(TIMEOUTS),
            create: key(CREATE_TIME),
            wait: key(WAIT_TIME),
            in_use: key(USE_TIME),
            labels,
            monitor,
            name,
        }
    }

    pub(crate) fn monitor(&self) -> &Monitor {
        &self.monitor
    }

    /// Once a second.
    pub(crate) fn tick(&self, sample: Sample) {
        if !self.monitor.is_enabled() {
            return;
        }
        let Sample { idle, used, max, idle_max, idle_min, pending } = sample;
        let gauges = [
            (&self.idle, idle),
            (&self.used, used),
            (&self.max, max),
            (&self.idle_max, idle_max),
            (&self.idle_min, idle_min),
            (&self.pending, pending),
        ];
        for (key, value) in gauges {
            meter::set(key, value);
        }
        self.monitor.tick();
    }

    #[inline]
    pub(crate) fn lent(&self, ledger: &mut Ledger, wait: Duration, now: Instant) {
        if self.monitor.is_enabled() {
            let epoch = ledger.recorder.look(now);
            ledger.wait.record(epoch, &self.wait, wait.as_secs_f64());
            if let Some(observer) = self.monitor.observer() {
                observer.lent(&self.name, wait);
            }
        }
    }

    #[inline]
    pub(crate) fn given_back(&self, ledger: &mut Ledger, lent_at: Instant, now: Instant) {
        if self.monitor.is_enabled() {
            let used = now.saturating_duration_since(lent_at);
            ledger.used.record(ledger.recorder.epoch(), &self.in_use, used.as_secs_f64());
            if let Some(observer) = self.monitor.observer() {
                observer.given_back(&self.name, used);
            }
        }
    }

    pub(crate) fn timed_out(&self, waited: Duration) {
        if self.monitor.is_enabled() {
            meter::count(&self.timeouts);
            if let Some(observer) = self.monitor.observer() {
                observer.timed_out(&self.name, waited);
            }
        }
    }

    pub(crate) fn connected(&self, took: Duration) {
        if self.monitor.is_enabled() {
            meter::record(&self.create, took);
            if let Some(observer) = self.monitor.observer() {
                observer.connected(&self.name, took);
            }
        }
    }

    /// A standby canceled a statement because of its recovery.
    pub(crate) fn conflict(&self) {
        if self.monitor.is_enabled() {
            meter::count(&Key::from_parts(KeyName::from_const_str(CONFLICTS), self.labels.clone()));
        }
    }

    pub(crate) fn not_connected(&self, error_type: &'static str) {
        if self.monitor.is_enabled() {
            let mut labels = self.labels.clone();
            labels.push(Label::from_static_parts("error.type", error_type));
            meter::count(&Key::from_parts(KeyName::from_const_str(CONNECT_ERRORS), labels));
        }
    }
}
