//! The tree of backends that block each other.

use std::time::Duration;

use super::sample::Lock;

/// A backend in the tree: below it are those that wait for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) depth: usize,
    pub(super) pid: i32,
    /// Of a root, its state. Of one that waits, the mode and the object of the lock.
    pub(super) state: String,
    /// For how long it has been waiting.
    pub(super) age: Option<Duration>,
    pub(super) query: String,
}

/// The tree from the top, the longest wait first. A backend that waits for several is below each of
/// them; those that wait for it are below its first place only, so that a queue of n backends makes
/// as many nodes as `locks`, and not 2^n. Any backend of a cycle is its root.
pub(super) fn tree(locks: &[Lock]) -> Vec<Node> {
    let mut nodes = Vec::new();
    let mut expanded = Vec::new();
    let waits = |pid: i32| locks.iter().any(|lock| lock.waiting == pid);
    let roots = locks.iter().filter(|lock| !waits(lock.blocking)).chain(locks);
    for root in roots {
        if !expanded.contains(&root.blocking) {
            nodes.push(Node {
                depth: 0,
                pid: root.blocking,
                state: root.blocking_state.clone(),
                age: None,
                query: root.blocking_query.clone(),
            });
            add_waiting(locks, root.blocking, 1, &mut expanded, &mut nodes);
        }
    }
    nodes
}

fn add_waiting(
    locks: &[Lock],
    blocking: i32,
    depth: usize,
    expanded: &mut Vec<i32>,
    nodes: &mut Vec<Node>,
) {
    expanded.push(blocking);
    for lock in locks.iter().filter(|lock| lock.blocking == blocking) {
        nodes.push(Node {
            depth,
            pid: lock.waiting,
            state: format!("waits for {} on {}", lock.mode, lock.on),
            age: Some(lock.age),
            query: lock.waiting_query.clone(),
        });
        if !expanded.contains(&lock.waiting) {
            add_waiting(locks, lock.waiting, depth + 1, expanded, nodes);
        }
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
            tree(locks).iter().map(|node| (node.depth, node.pid)).collect()
        };
        let locks = [lock(3, 2), lock(2, 1), lock(4, 1)];
        assert_eq!(shape(&locks), [(0, 1), (1, 2), (2, 3), (1, 4)]);
        // One that waits for two is below each of them, and what waits for it is shown once.
        let locks = [lock(3, 1), lock(3, 2), lock(4, 3)];
        assert_eq!(shape(&locks), [(0, 1), (1, 3), (2, 4), (0, 2), (1, 3)]);
        // A deadlock that the server has not ended yet.
        assert_eq!(shape(&[lock(1, 2), lock(2, 1)]), [(0, 2), (1, 1), (2, 2)]);
        // A queue, where everybody waits for all before.
        let queue: Vec<Lock> =
            (1..20).flat_map(|waiting| (0..waiting).map(move |it| lock(waiting, it))).collect();
        assert_eq!(tree(&queue).len(), queue.len() + 1);
        assert_eq!(shape(&[]), []);
    }
}
