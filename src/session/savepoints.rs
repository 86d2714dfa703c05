//! The savepoints of a transaction, and whose statements lie within whose.
//!
//! To PostgreSQL, savepoints are a stack: releasing one or rolling back to it takes along all that
//! came after it. Nested sessions that run side by side begin and end in any order. So this keeps
//! book of the statements within each savepoint: a rollback that would undo what another session
//! did is refused, because that one may have been told already that it is kept.

use std::panic::Location;

use crate::sql::{self, SavepointCommand};

/// A session of the transaction.
pub(super) type Id = u32;

/// The session with BEGIN and COMMIT.
pub(super) const OUTERMOST: Id = 0;

type Place = Option<&'static Location<'static>>;

enum Savepoint {
    /// Of a nested session.
    Nested(Nested),
    /// By the caller's own SAVEPOINT.
    Named { name: String, owner: Id },
}

struct Nested {
    id: Id,
    parent: Id,
    is_read_only: bool,
    opened_at: Place,
    state: State,
    /// Other sessions whose statements lie within it, and would be undone with it.
    mixed_with: Vec<(Id, Place)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// RELEASE was sent; its answer is not known.
    Releasing,
    /// Its changes belong to its parent. The savepoint stays until those above it have ended.
    Committed,
}

/// The next step for the sessions that are to be rolled back.
pub(super) enum Undo {
    Nothing,
    /// To be sent; then [`Savepoints::undone`] is to be told.
    Sql(String),
    /// It would undo what other sessions did.
    Refused(String),
}

#[derive(Default)]
pub(super) struct Savepoints {
    stack: Vec<Savepoint>,
    last: Id,
    /// The sessions that are to be rolled back.
    undo: Vec<Id>,
}

impl Savepoints {
    pub(super) fn is_empty(&self) -> bool {
        self.stack.is_empty()
    }

    fn nested(&self) -> impl DoubleEndedIterator<Item = &Nested> {
        self.stack.iter().filter_map(|savepoint| match savepoint {
            Savepoint::Nested(nested) => Some(nested),
            Savepoint::Named { .. } => None,
        })
    }

    fn nested_mut(&mut self) -> impl Iterator<Item = &mut Nested> {
        self.stack.iter_mut().filter_map(|savepoint| match savepoint {
            Savepoint::Nested(nested) => Some(nested),
            Savepoint::Named { .. } => None,
        })
    }

    fn find(&self, id: Id) -> Option<&Nested> {
        self.nested().find(|nested| nested.id == id)
    }

    /// Whether the session may run statements. A nested one that was rolled back with the one around
    /// it may not.
    pub(super) fn is_open(&self, id: Id) -> bool {
        id == OUTERMOST || self.find(id).is_some_and(|nested| nested.state == State::Open)
    }

    /// Whether `id` is `ancestor` or nested in it.
    fn is_within(&self, mut id: Id, ancestor: Id) -> bool {
        loop {
            if id == ancestor {
                return true;
            }
            match self.find(id) {
                Some(nested) => id = nested.parent,
                None => return false,
            }
        }
    }

    /// A nested session begins. With it, what is to be sent.
    pub(super) fn begin(
        &mut self,
        parent: Id,
        is_read_only: bool,
        opened_at: Place,
    ) -> (Id, String) {
        self.last += 1;
        let nested = Nested {
            id: self.last,
            parent,
            is_read_only,
            opened_at,
            state: State::Open,
            mixed_with: Vec::new(),
        };
        let sql = nested.creation();
        self.stack.push(Savepoint::Nested(nested));
        (self.last, sql)
    }

    /// The server has refused to make this session's savepoint.
    pub(super) fn not_begun(&mut self, id: Id) {
        self.stack.retain(|it| !matches!(it, Savepoint::Nested(nested) if nested.id == id));
    }

    /// A statement of this session may have changed something.
    pub(super) fn ran(&mut self, id: Id) {
        let opened_at = self.find(id).and_then(|nested| nested.opened_at);
        let around: Vec<Id> =
            self.nested().map(|it| it.id).filter(|it| self.is_within(id, *it)).collect();
        for nested in self.nested_mut().filter(|it| !around.contains(&it.id)) {
            if !nested.mixed_with.iter().any(|(with, _)| *with == id) {
                nested.mixed_with.push((id, opened_at));
            }
        }
    }

    /// A nested session commits. What is to be sent, after which [`committed`](Self::committed) is to be
    /// told; nothing where sessions that began later are still open.
    pub(super) fn commit(&mut self, id: Id) -> Option<String> {
        let from = self.released_with(id)?;
        self.nested_mut().filter(|it| it.id == id).for_each(|it| it.state = State::Releasing);
        match self.stack.get(from)? {
            Savepoint::Nested(lowest) => Some(format!("RELEASE SAVEPOINT wharf_{}", lowest.id)),
            Savepoint::Named { .. } => None,
        }
    }

    /// Where in the stack those begin that RELEASE takes along; `None` if one among them is still open.
    fn released_with(&self, id: Id) -> Option<usize> {
        let mut lowest = None;
        for (at, savepoint) in self.stack.iter().enumerate().rev() {
            match savepoint {
                Savepoint::Nested(nested) if nested.id == id => lowest = Some(at),
                Savepoint::Nested(nested) if nested.state == State::Committed => lowest = Some(at),
                Savepoint::Named { owner, .. } if *owner == id => {}
                _ => break,
            }
        }
        let at =
            self.stack.iter().position(|it| matches!(it, Savepoint::Nested(it) if it.id == id));
        lowest.filter(|lowest| at.is_some_and(|at| at >= *lowest))
    }

    /// A nested session is committed: what it did is its parent's from here on, which is returned.
    pub(super) fn committed(&mut self, id: Id) -> Id {
        let Some(parent) = self.find(id).map(|nested| nested.parent) else {
            return OUTERMOST;
        };
        if let Some(from) = self.released_with(id) {
            self.stack.truncate(from);
        }
        for savepoint in &mut self.stack {
            match savepoint {
                Savepoint::Named { owner, .. } if *owner == id => *owner = parent,
                Savepoint::Named { .. } => {}
                Savepoint::Nested(nested) => {
                    if nested.id == id {
                        nested.state = State::Committed;
                    }
                    if nested.parent == id {
                        nested.parent = parent;
                    }
                    for (with, _) in &mut nested.mixed_with {
                        if *with == id {
                            *with = parent;
                        }
                    }
                }
            }
        }
        self.drop_own();
        parent
    }

    /// The session whose RELEASE was sent and not answered.
    pub(super) fn releasing(&self) -> Option<Id> {
        self.nested().find(|it| it.state == State::Releasing).map(|it| it.id)
    }

    /// The server has refused to commit this session: it is to be rolled back.
    pub(super) fn not_released(&mut self, id: Id) {
        self.nested_mut().filter(|it| it.id == id).for_each(|it| it.state = State::Open);
        self.roll_back(id);
    }

    /// What a session did itself is not mixed with it.
    fn drop_own(&mut self) {
        let own: Vec<(Id, Id)> = self
            .nested()
            .flat_map(|it| it.mixed_with.iter().map(move |(with, _)| (it.id, *with)))
            .filter(|(id, with)| self.is_within(*with, *id))
            .collect();
        for nested in self.nested_mut() {
            nested.mixed_with.retain(|(with, _)| !own.contains(&(nested.id, *with)));
        }
    }

    /// A nested session is to be rolled back before anything else is sent.
    pub(super) fn roll_back(&mut self, id: Id) {
        if self.is_open(id) && !self.undo.contains(&id) {
            self.undo.push(id);
        }
    }

    /// Whether this session is to be rolled back, or one around it.
    fn goes(&self, id: Id) -> bool {
        self.undo.iter().any(|undo| self.is_within(id, *undo))
    }

    fn lowest_undo(&self) -> Option<usize> {
        self.stack
            .iter()
            .position(|it| matches!(it, Savepoint::Nested(it) if self.undo.contains(&it.id)))
    }

    /// What stands above the lowest savepoint that is rolled back to, and stays.
    fn staying(&self, from: usize) -> impl Iterator<Item = &Savepoint> {
        self.stack.iter().skip(from).filter(|savepoint| match savepoint {
            Savepoint::Nested(it) => it.state == State::Open && !self.goes(it.id),
            Savepoint::Named { owner, .. } => !self.goes(*owner),
        })
    }

    /// What is to be sent before the next statement.
    pub(super) fn undo(&self) -> Undo {
        let Some(from) = self.lowest_undo() else {
            return Undo::Nothing;
        };
        let Some(Savepoint::Nested(lowest)) = self.stack.get(from) else {
            return Undo::Nothing;
        };
        if let Some((_, other)) = lowest.mixed_with.iter().find(|(with, _)| !self.goes(*with)) {
            return Undo::Refused(format!(
                "the nested session begun {} cannot be rolled back alone, because {} ran statements \
                 while it was open; roll back the outermost session, and let nested sessions run one \
                 after the other",
                place(lowest.opened_at),
                match other {
                    Some(at) => format!("the one begun at {at}"),
                    None => "the session around it".to_owned(),
                }
            ));
        }
        let mut sql = format!("ROLLBACK TO SAVEPOINT wharf_{}", lowest.id);
        for savepoint in self.staying(from) {
            sql.push_str("; ");
            sql.push_str(&match savepoint {
                Savepoint::Nested(nested) => nested.creation(),
                Savepoint::Named { name, .. } => format!("SAVEPOINT {}", sql::quote_ident(name)),
            });
        }
        Undo::Sql(sql)
    }

    /// What [`undo`](Self::undo) gave was sent and answered.
    pub(super) fn undone(&mut self) {
        let Some(from) = self.lowest_undo() else {
            return;
        };
        let gone: Vec<Id> =
            self.nested().map(|nested| nested.id).filter(|id| self.goes(*id)).collect();
        let stays: Vec<bool> = {
            let staying: Vec<*const Savepoint> =
                self.staying(from).map(std::ptr::from_ref).collect();
            let stays = |it: &Savepoint| staying.contains(&std::ptr::from_ref(it));
            self.stack.iter().enumerate().map(|(at, it)| at < from || stays(it)).collect()
        };
        let mut stays = stays.into_iter();
        self.stack.retain(|_| stays.next().unwrap_or(false));
        while matches!(self.stack.last(), Some(Savepoint::Nested(it)) if it.state == State::Committed)
        {
            self.stack.pop();
        }
        for nested in self.nested_mut() {
            nested.mixed_with.retain(|(with, _)| !gone.contains(with));
        }
        self.undo.clear();
    }

    /// The sessions within `id`, itself included.
    pub(super) fn within(&self, id: Id) -> Vec<Id> {
        let inner = self.nested().map(|nested| nested.id);
        inner.filter(|it| *it != id && self.is_within(*it, id)).chain([id]).collect()
    }

    /// Keeps book of the savepoint commands in the caller's own SQL; why one of them is refused.
    pub(super) fn raw(&mut self, id: Id, commands: Vec<SavepointCommand>) -> Result<(), String> {
        for command in commands {
            let (SavepointCommand::Create(name)
            | SavepointCommand::Release(name)
            | SavepointCommand::RollBackTo(name)) = &command;
            if name.starts_with("U&") || name.starts_with("wharf_") {
                return Err(format!(
                    "savepoint `{name}`: names by U& and names that begin with wharf_ are reserved; use \
                     another name"
                ));
            }
            if let SavepointCommand::Create(name) = command {
                self.stack.push(Savepoint::Named { name, owner: id });
                continue;
            }
            let of_name =
                |it: &Savepoint| matches!(it, Savepoint::Named { name: it, .. } if it == name);
            // One that is not known is the server's to refuse.
            let Some(at) = self.stack.iter().rposition(of_name) else {
                continue;
            };
            let above = self.stack.iter().skip(at).find_map(|it| match it {
                Savepoint::Nested(nested) => Some(nested),
                Savepoint::Named { .. } => None,
            });
            if let Some(above) = above {
                return Err(format!(
                    "savepoint `{name}` is older than the nested session begun {}, which would end with \
                     it; end that session first",
                    place(above.opened_at)
                ));
            }
            let keeps = usize::from(matches!(command, SavepointCommand::RollBackTo(_)));
            self.stack.truncate(at + keeps);
        }
        Ok(())
    }
}

impl Nested {
    fn creation(&self) -> String {
        let read_only = if self.is_read_only { "; SET TRANSACTION READ ONLY" } else { "" };
        format!("SAVEPOINT wharf_{}{read_only}", self.id)
    }
}

fn place(opened_at: Place) -> String {
    opened_at.map_or_else(|| "in this session".to_owned(), |at| format!("at {at}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(savepoints: &mut Savepoints, parent: Id) -> Id {
        savepoints.begin(parent, false, None).0
    }

    fn undo(savepoints: &mut Savepoints, id: Id) -> Result<String, String> {
        savepoints.roll_back(id);
        match savepoints.undo() {
            Undo::Sql(sql) => {
                savepoints.undone();
                Ok(sql)
            }
            Undo::Refused(reason) => Err(reason),
            Undo::Nothing => Ok(String::new()),
        }
    }

    fn raw(savepoints: &mut Savepoints, id: Id, sql: &str) -> Result<(), String> {
        savepoints.raw(id, sql::Control::of(sql).savepoints)
    }

    #[test]
    fn those_within_each_other_are_released_and_rolled_back_one_by_one() {
        let mut it = Savepoints::default();
        let outer = begin(&mut it, OUTERMOST);
        let inner = begin(&mut it, outer);
        it.ran(inner);
        assert_eq!(it.commit(inner).unwrap(), "RELEASE SAVEPOINT wharf_2");
        it.committed(inner);
        it.ran(outer);
        assert_eq!(undo(&mut it, outer).unwrap(), "ROLLBACK TO SAVEPOINT wharf_1");
        assert!(it.is_empty() && !it.is_open(outer));
    }

    #[test]
    fn one_that_commits_below_others_waits_for_them() {
        let mut it = Savepoints::default();
        let (a, b) = (begin(&mut it, OUTERMOST), begin(&mut it, OUTERMOST));
        it.ran(a);
        it.ran(b);
        assert_eq!(it.commit(a), None);
        it.committed(a);
        assert_eq!(it.commit(b).unwrap(), "RELEASE SAVEPOINT wharf_1");
        it.committed(b);
        assert!(it.is_empty());
    }

    #[test]
    fn what_another_did_is_not_rolled_back() {
        let mut it = Savepoints::default();
        let (a, b) = (begin(&mut it, OUTERMOST), begin(&mut it, OUTERMOST));
        it.ran(a);
        // The statement of the first lies within the savepoint of the second.
        assert!(undo(&mut it, b).unwrap_err().contains("cannot be rolled back alone"));
        // Until the first one goes as well.
        assert_eq!(undo(&mut it, a).unwrap(), "ROLLBACK TO SAVEPOINT wharf_1");
        assert!(it.is_empty());
    }

    #[test]
    fn one_that_did_nothing_begins_anew_above_one_that_is_rolled_back() {
        let mut it = Savepoints::default();
        let (a, b) = (begin(&mut it, OUTERMOST), it.begin(OUTERMOST, true, None).0);
        let again = "ROLLBACK TO SAVEPOINT wharf_1; SAVEPOINT wharf_2; SET TRANSACTION READ ONLY";
        assert_eq!(undo(&mut it, a).unwrap(), again);
        assert!(it.is_open(b) && !it.is_open(a));
        assert_eq!(it.commit(b).unwrap(), "RELEASE SAVEPOINT wharf_2");
    }

    #[test]
    fn what_a_committed_one_did_is_its_parents() {
        let mut it = Savepoints::default();
        let a = begin(&mut it, OUTERMOST);
        let b = begin(&mut it, OUTERMOST);
        let inner = begin(&mut it, b);
        it.ran(inner);
        it.committed(inner);
        it.committed(b);
        // It is the outermost session's now, and cannot be told from that.
        assert!(undo(&mut it, a).is_err());
    }

    #[test]
    fn those_nested_in_one_that_is_rolled_back_have_ended() {
        let mut it = Savepoints::default();
        let a = begin(&mut it, OUTERMOST);
        let inner = begin(&mut it, a);
        it.ran(inner);
        assert_eq!(undo(&mut it, a).unwrap(), "ROLLBACK TO SAVEPOINT wharf_1");
        assert!(!it.is_open(inner));
    }

    #[test]
    fn a_release_that_nobody_waited_for_went_well_or_is_rolled_back() {
        for has_failed in [false, true] {
            let mut it = Savepoints::default();
            let a = begin(&mut it, OUTERMOST);
            it.commit(a).unwrap();
            // The session's drop.
            it.roll_back(a);
            assert_eq!(it.releasing(), Some(a));
            match has_failed {
                true => it.not_released(a),
                false => drop(it.committed(a)),
            }
            assert_eq!(matches!(it.undo(), Undo::Sql(_)), has_failed);
        }
    }

    #[test]
    fn a_callers_savepoint_does_not_reach_past_a_nested_session() {
        let mut it = Savepoints::default();
        raw(&mut it, OUTERMOST, "SAVEPOINT a; ROLLBACK TO a; RELEASE a; SAVEPOINT a").unwrap();
        let nested = begin(&mut it, OUTERMOST);
        assert!(
            raw(&mut it, nested, "ROLLBACK TO SAVEPOINT a").unwrap_err().contains("older than")
        );
        raw(&mut it, nested, "SAVEPOINT a; ROLLBACK TO a").unwrap();
        for reserved in
            ["ROLLBACK TO wharf_1", "RELEASE \"wharf_1\"", "ROLLBACK TO U&\"\\0077harf_1\""]
        {
            assert!(raw(&mut it, nested, reserved).unwrap_err().contains("reserved"), "{reserved}");
        }
        // Its own savepoint ends with it.
        assert_eq!(it.commit(nested).unwrap(), "RELEASE SAVEPOINT wharf_1");
        it.committed(nested);
        raw(&mut it, OUTERMOST, "ROLLBACK TO a").unwrap();
    }
}
