//! A project's migrations, whatever the type of their migrator.

use std::fmt;

use futures_util::future::BoxFuture;
use sea_orm_migration::MigratorTrait;

use crate::migrate::{DryRun, Migrated, Migration, Work};
use crate::{Error, Pg};

/// The migrations of one database of the file.
#[derive(Debug)]
pub(in crate::cli) struct Known {
    pub(in crate::cli) database: String,
    pub(in crate::cli) migrations: Migrations,
}

type Coming<T> = BoxFuture<'static, Result<T, Error>>;

/// What [`Pg::migrate`] does, with the migrator's type forgotten.
pub(in crate::cli) struct Migrations {
    apply: fn(&Pg, Work) -> Coming<Migrated>,
    status: fn(&Pg) -> Coming<Vec<Migration>>,
    dry_run: fn(&Pg) -> Coming<DryRun>,
    dry_run_on: fn(&Pg, &Pg) -> Coming<DryRun>,
}

impl Migrations {
    pub(in crate::cli) fn of<M: MigratorTrait + 'static>() -> Migrations {
        Migrations {
            apply: |pg, step| Box::pin(pg.migrate::<M>().work(step)),
            status: |pg| Box::pin(pg.migrate::<M>().status()),
            dry_run: |pg| Box::pin(pg.migrate::<M>().dry_run()),
            dry_run_on: |pg, scratch| {
                let (pg, scratch) = (pg.clone(), scratch.clone());
                Box::pin(async move { pg.migrate::<M>().dry_run_on(&scratch).await })
            },
        }
    }

    pub(in crate::cli) async fn apply(&self, pg: &Pg, step: Work) -> Result<Migrated, Error> {
        (self.apply)(pg, step).await
    }

    pub(super) async fn status(&self, pg: &Pg) -> Result<Vec<Migration>, Error> {
        (self.status)(pg).await
    }

    pub(super) async fn dry_run(&self, pg: &Pg) -> Result<DryRun, Error> {
        (self.dry_run)(pg).await
    }

    pub(super) async fn dry_run_on(&self, pg: &Pg, scratch: &Pg) -> Result<DryRun, Error> {
        (self.dry_run_on)(pg, scratch).await
    }
}

impl fmt::Debug for Migrations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Migrations").finish_non_exhaustive()
    }
}
