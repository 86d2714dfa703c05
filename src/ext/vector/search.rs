//! How a search goes to the server.

use sea_orm::{
    ConnectionTrait, DbBackend, DbErr, EntityTrait, QueryResult, QueryTrait as _, Select,
    Statement, StatementBuilder,
    sea_query::{PostgresQueryBuilder, Query, SelectStatement},
};

use super::{VectorError, value::Declared};
use crate::{
    error::Error,
    pg::Pg,
    session::{Session, SessionBuilder},
};

/// What the distance is called among a row's columns.
pub(super) const DISTANCE: &str = "wharf_distance";

/// The most rows that LIMIT takes.
pub(super) const MOST_ROWS: u64 = i64::MAX as u64;

/// A search as a statement. How many it is to find stands in its text: were it bound, the server could not
/// know that a plan for any number of them is a plan for ten, and would make one anew each time.
pub(super) struct Search {
    select: SelectStatement,
    limit: u64,
    way: Way,
}

enum Way {
    /// In the order of the select, which an index may serve.
    AsOrdered,
    /// The first so many in that order, then by the distance itself.
    Reordered(u64),
    /// By the distance itself, in a way that no index serves.
    Exact,
}

impl Search {
    pub fn as_ordered(select: SelectStatement, limit: u64) -> Search {
        Search { select, limit, way: Way::AsOrdered }
    }

    pub fn reordered(select: SelectStatement, candidates: u64, limit: u64) -> Search {
        Search { select, limit, way: Way::Reordered(candidates) }
    }

    /// The same without an index. As another text: a plan that is there already would not be made anew
    /// because of a setting.
    fn exact(&self) -> Search {
        let mut select = self.select.clone();
        select.clear_order_by();
        Search { select, limit: self.limit, way: Way::Exact }
    }

    /// What is found, without the rows that have no distance (NaN, as from a zero vector). The server has these
    /// last, so none is left out for them, but where candidates came by another order.
    pub async fn rows(&self, db: &impl ConnectionTrait) -> Result<Vec<QueryResult>, DbErr> {
        let mut rows = db.query_all(self).await?;
        rows.retain(|row| !row.try_get::<f64>("", DISTANCE).is_ok_and(f64::is_nan));
        Ok(rows)
    }

    /// Whether there may be more than `rows`.
    pub fn falls_short(&self, rows: &[QueryResult]) -> bool {
        u64::try_from(rows.len()).is_ok_and(|found| found < self.limit)
    }

    /// What is found on a connection on which `scan` holds.
    async fn found(
        &self,
        db: &impl ConnectionTrait,
        scan: Scan,
    ) -> Result<Vec<QueryResult>, DbErr> {
        let rows = self.rows(db).await?;
        match scan.to_the_end && self.falls_short(&rows) {
            true => self.exact().rows(db).await,
            false => Ok(rows),
        }
    }
}

impl StatementBuilder for Search {
    fn build(&self, _: &DbBackend) -> Statement {
        let (sql, values) = self.select.build(PostgresQueryBuilder);
        let limit = self.limit;
        let sql = match self.way {
            Way::AsOrdered => format!("{sql} LIMIT {limit}"),
            // The server holds what a relaxed scan gives for ordered, unless it is something else.
            Way::Reordered(candidates) => format!(
                "SELECT * FROM ({sql} LIMIT {candidates}) AS wharf_near ORDER BY {DISTANCE} + 0 LIMIT {limit}"
            ),
            Way::Exact => {
                format!("SELECT * FROM ({sql}) AS wharf_near ORDER BY {DISTANCE} + 0 LIMIT {limit}")
            }
        };
        Statement { sql, values: Some(values), db_backend: DbBackend::Postgres }
    }
}

/// How an index is gone through.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scan {
    pub ef_search: Option<u32>,
    pub probes: Option<u32>,
    /// It is gone through for what a filter leaves.
    pub filtered: bool,
    /// Where the index gives fewer than asked for, the table is read.
    pub to_the_end: bool,
}

/// As many as pgvector takes.
const EF_SEARCH_MAX: u32 = 1_000;

impl Scan {
    /// One that has at least `candidates` at hand at a time.
    pub fn at_least(self, candidates: u64) -> Scan {
        let candidates = u32::try_from(candidates).unwrap_or(EF_SEARCH_MAX).min(EF_SEARCH_MAX);
        // Few of them: the server's own choice may be more.
        let needed = Some(candidates).filter(|candidates| *candidates > EF_SEARCH);
        Scan { ef_search: self.ef_search.or(needed), ..self }
    }

    pub fn check(self, column: &Declared) -> Result<(), VectorError> {
        let refuse =
            |reason: String| Err(VectorError::Search { place: column.place.clone(), reason });
        match (self.ef_search, self.probes) {
            (Some(ef), _) if !(1..=EF_SEARCH_MAX).contains(&ef) => {
                refuse(format!("ef_search is 1 to {EF_SEARCH_MAX}; {ef} was given"))
            }
            (_, Some(probes)) if !(1..=32_768).contains(&probes) => {
                refuse(format!("probes are 1 to 32,768; {probes} was given"))
            }
            _ => Ok(()),
        }
    }

    fn settings(self) -> impl Iterator<Item = (&'static str, String)> {
        // In nearly the right order: rows that come late are kept, where a strict order would drop them.
        // Few enough come for their order to be put right when they are here.
        let relaxed = ["hnsw.iterative_scan", "ivfflat.iterative_scan"];
        let relaxed = relaxed.map(|setting| (setting, "relaxed_order".to_owned()));
        // pgvector has the planner hold a scan that filters for a quarter of what it costs. Where a filter
        // keeps little, all of that is read in less time, and none of it is missed.
        let table = self.filtered.then(|| ("seq_page_cost", "0.25".to_owned()));
        let ef_search = self.ef_search.map(|ef| ("hnsw.ef_search", ef.to_string()));
        let probes = self.probes.map(|probes| ("ivfflat.probes", probes.to_string()));
        relaxed.into_iter().chain(table).chain(ef_search).chain(probes)
    }

    /// In a read-only session of its own, and in another where the statement was prepared for a table or a type that
    /// has been made anew.
    pub async fn run(self, pg: &Pg, search: &Search) -> Result<Vec<QueryResult>, Error> {
        let session = self.session(pg).await?;
        let found = search.found(&session, self).await;
        if found.is_ok() || !session.is_stale().await {
            return Ok(found?);
        }
        drop(session);
        let session = self.session(pg).await?;
        Ok(search.found(&session, self).await?)
    }

    fn session(self, pg: &Pg) -> SessionBuilder {
        let session = pg.session_for("a search").read_only();
        self.settings().fold(session, |session, (name, value)| session.set_local(name, value))
    }

    /// In a session of the caller's, where the settings stay.
    pub async fn run_in(
        self,
        session: &Session,
        search: &Search,
    ) -> Result<Vec<QueryResult>, Error> {
        let settings: Vec<String> = self
            .settings()
            .map(|(name, value)| format!("set_config('{name}', '{value}', true)"))
            .collect();
        let set = format!("SELECT {}", settings.join(", "));
        session.query_one_raw(Statement::from_string(DbBackend::Postgres, set)).await?;
        Ok(search.found(session, self).await?)
    }
}

impl Declared {
    /// Refuses a number of rows that LIMIT does not take.
    pub(super) fn counts(&self, what: &str, rows: u64) -> Result<(), VectorError> {
        match rows <= MOST_ROWS {
            true => Ok(()),
            false => {
                let reason = format!(
                    "{what} is {rows}, and PostgreSQL counts up to {MOST_ROWS} rows; give fewer"
                );
                Err(VectorError::Search { place: self.place.clone(), reason })
            }
        }
    }
}

/// What pgvector has at hand unless told otherwise (`hnsw.ef_search`), and so the most that a plain
/// statement finds.
pub(super) const EF_SEARCH: u32 = 40;

/// Looks at the select that a search is to be among: whether it is the whole table.
pub(super) fn is_whole<E: EntityTrait>(
    find: &Select<E>,
    column: &Declared,
) -> Result<bool, VectorError> {
    let mut bare = find.as_query().clone();
    bare.clear_order_by().reset_limit().reset_offset();
    if bare != *find.as_query() {
        let reason =
            "the select has an order, a limit or an offset of its own; the search makes these";
        return Err(VectorError::Search { place: column.place.clone(), reason: reason.to_owned() });
    }
    let mut table = Query::select();
    table.from(E::default().table_ref());
    Ok(*bare.clear_selects() == table)
}
