//! A part of a program whose statements are counted together.

use std::{
    panic::Location,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Digest, Repeats};

tokio::task_local! {
    static SCOPE: Arc<Scope>;
}

pub(super) struct Scope {
    pub(super) opened_at: &'static Location<'static>,
    repeats: Mutex<Repeats>,
    /// The text of each statement, where somebody wants to know them all.
    statements: Option<Mutex<Vec<String>>>,
}

impl Scope {
    fn new(opened_at: &'static Location<'static>, listed: bool) -> Arc<Scope> {
        let (repeats, statements) = (Mutex::default(), listed.then(Mutex::default));
        Arc::new(Scope { opened_at, repeats, statements })
    }

    pub(super) fn repeats(&self) -> MutexGuard<'_, Repeats> {
        self.repeats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn saw(&self, digest: &Digest) {
        if let Some(mut statements) = self.statements() {
            statements.push(digest.text().to_owned());
        }
    }

    fn statements(&self) -> Option<MutexGuard<'_, Vec<String>>> {
        let statements = self.statements.as_ref()?;
        Some(statements.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        let repeats = self.repeats.get_mut().unwrap_or_else(PoisonError::into_inner);
        repeats.end("one scope", Some(self.opened_at));
    }
}

/// What `look` makes of the scope around the task that it runs on, if there is one.
pub(super) fn current<T>(look: impl FnOnce(&Scope) -> T) -> Option<T> {
    SCOPE.try_with(|scope| look(scope)).ok()
}

/// Runs `work` with the statements of all databases in it counted together: the same one again and again
/// is an N+1, and what [`NPlusOne`](crate::config::NPlusOne) says is done about it. For a request of a
/// service, say; a session is a scope by itself, unless there is one around it.
///
/// The log names the place of this call. Costs one allocation. A task that is spawned in it is not in
/// it; of scopes inside each other the innermost counts.
///
/// ```no_run
/// # use sea_orm::EntityTrait;
/// # use entity::shop::customer;
/// # async fn doc(pg: wharf::Pg, ids: Vec<i32>) -> Result<(), sea_orm::DbErr> {
/// wharf::scope(async {
///     for id in ids {
///         customer::Entity::find_by_id(id).one(&pg).await?;   // an N+1: is_in(ids) asks once
///     }
///     Ok(())
/// })
/// .await
/// # }
/// ```
#[track_caller]
pub fn scope<F: Future>(work: F) -> impl Future<Output = F::Output> {
    SCOPE.scope(Scope::new(Location::caller(), false), work)
}

/// Runs `work`, and panics if it ran another number of statements than `expected`, with their texts: for
/// tests. BEGIN, COMMIT, ROLLBACK and savepoints are not counted. As for the rest it is a
/// [`scope`](crate::scope).
///
/// ```no_run
/// # use sea_orm::EntityTrait;
/// # use entity::shop::customer;
/// # async fn doc(pg: wharf::Pg) {
/// let all = wharf::assert_queries(1, async { customer::Entity::find().all(&pg).await }).await;
/// # }
/// ```
#[track_caller]
pub fn assert_queries<F: Future>(expected: usize, work: F) -> impl Future<Output = F::Output> {
    let scope = Scope::new(Location::caller(), true);
    async move {
        let output = SCOPE.scope(Arc::clone(&scope), work).await;
        let statements =
            scope.statements().map(|statements| statements.clone()).unwrap_or_default();
        assert!(
            statements.len() == expected,
            "{}: {} statements ran, not {expected}:\n{}",
            scope.opened_at,
            statements.len(),
            statements.join("\n")
        );
        output
    }
}
