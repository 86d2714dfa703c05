//! The tree of backends that block each other.

use std::time::Duration;

use super::sample::Lock;

/// A backend: one that blocks others at the root, those that wait for it below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) depth: usize,
    pub(super) pid: i32,
    /// Of one that blocks: what it does. Of one that waits: the mode and the object.
    pub(super) state: String,
    pub(super) age: Option<Duration>,
    pub(super) query: String,
}

/// The rows of the tree, from the top. Of a cycle, any backend is the root.
pub(super) fn tree(locks: &[Lock]) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut seen = Vec::new();
    let waits = |pid: i32| locks.iter().any(|lock| lock.waiting == pid);
    let roots = locks.iter().filter(|lock| !waits(lock.blocking)).chain(locks);
    for root in roots {
        if !seen.contains(&root.blocking) {
            rows.push(Row {
                depth: 0,
                pid: root.blocking,
                state: root.blocking_state.clone(),
                age: None,
                query: root.blocking_query.clone(),
            });
            seen.push(root.blocking);
            below(locks, root.blocking, 1, &mut seen, &mut rows);
        }
    }
    rows
}

fn below(locks: &[Lock], blocking: i32, depth: usize, seen: &mut Vec<i32>, rows: &mut Vec<Row>) {
    for lock in locks.iter().filter(|lock| lock.blocking == blocking) {
        if seen.contains(&lock.waiting) {
            continue;
        }
        seen.push(lock.waiting);
        rows.push(Row {
            depth,
            pid: lock.waiting,
            state: format!("waits for {} on {}", lock.mode, lock.on),
            age: Some(lock.age),
            query: lock.waiting_query.clone(),
        });
        below(locks, lock.waiting, depth + 1, seen, rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(waiting: i32, blocking: i32) -> Lock {
        Lock {
            waiting,
            blocking,
            mode: "m".to_owned(),
            on: "t".to_owned(),
            age: Duration::ZERO,
            blocking_state: "idle in transaction".to_owned(),
            waiting_query: String::new(),
            blocking_query: String::new(),
        }
    }

    #[test]
    fn those_that_wait_are_below_those_that_block() {
        let shape = |locks: &[Lock]| -> Vec<(usize, i32)> {
            tree(locks).iter().map(|row| (row.depth, row.pid)).collect()
        };
        let locks = [lock(3, 2), lock(2, 1), lock(4, 1)];
        assert_eq!(shape(&locks), [(0, 1), (1, 2), (2, 3), (1, 4)]);
        // A deadlock that the server has not ended yet.
        assert_eq!(shape(&[lock(1, 2), lock(2, 1)]), [(0, 2), (1, 1)]);
        assert_eq!(shape(&[]), []);
    }
}
