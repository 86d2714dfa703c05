//! Meaning and words together.

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};
use wharf::{
    Pg,
    ext::vector::{Distance, Fused, VectorIndex, Words, hybrid},
};

use crate::support::{self, Image};

mod note {
    use sea_orm::entity::prelude::*;
    use wharf::ext::vector::Vector;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "note")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i32,
        pub text: String,
        pub at: Option<Vector<2>>,
        #[sea_orm(column_type = "custom(\"tsvector\")", select_as = "text", save_as = "tsvector")]
        pub words: Option<String>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
use note::Column::{At, Id, Text, Words as WordsColumn};

/// Asked for what is to the east and has `boats`: 1 is nearest and has them once, 2 is next and has none, 3
/// has them oftenest and is far, 4 has none and is furthest, 5 has them once and is nowhere.
const NOTES: &str = "
CREATE TABLE note (id int PRIMARY KEY, text text NOT NULL, at vector(2),
    words tsvector GENERATED ALWAYS AS (to_tsvector('english', text)) STORED);
INSERT INTO note (id, text, at) VALUES
    (1, 'A boat has a mast', '[1, 0]'), (2, 'Nothing of the kind', '[1, 0.1]'),
    (3, 'Boats beside boats beside boats', '[-1, 0.1]'), (4, 'Nothing at all', '[-1, 0]'),
    (5, 'One boat', NULL)";

fn ranks(found: &[Fused<note::Model>]) -> Vec<(i32, Option<i64>, Option<i64>)> {
    found.iter().map(|it| (it.model.id, it.near, it.text)).collect()
}

async fn notes() -> Option<(wharf::testing::TestDatabase, Pg)> {
    let database = support::database(Image::Vector).await?;
    database.execute_unprepared(NOTES).await.unwrap();
    let pg = database.pg().clone();
    Some((database, pg))
}

#[tokio::test]
async fn what_is_high_in_both_lists_comes_first() {
    let Some((_database, pg)) = notes().await else { return };
    for column in [Text, WordsColumn] {
        let words = Words::new(column, "english", "boats");
        let search = hybrid(note::Entity::find(), At, vec![1.0, 0.0], words);
        let found = wharf::assert_queries(1, search.clone().all(&pg)).await.unwrap();
        assert_eq!(
            ranks(&found),
            [
                (1, Some(1), Some(2)),
                (3, Some(3), Some(1)),
                (2, Some(2), None),
                (5, None, Some(3)),
                (4, Some(4), None),
            ]
        );
        let score = |one: f64, other: f64| 1.0 / (60.0 + one) + 1.0 / (60.0 + other);
        assert!((found[0].score - score(1.0, 2.0)).abs() < 1e-12);
        assert!((found[1].score - score(3.0, 1.0)).abs() < 1e-12);
        assert!((found[2].score - 1.0 / 62.0).abs() < 1e-12);
        assert_eq!(found[3].model.text, "One boat");

        let session = pg.session().await.unwrap();
        assert_eq!(search.all_in(&session).await.unwrap(), found);
    }
}

#[tokio::test]
async fn a_row_without_a_distance_has_no_rank_by_it() {
    let Some((_database, pg)) = notes().await else { return };
    pg.execute_unprepared("UPDATE note SET at = '[0, 0]' WHERE id IN (2, 4)").await.unwrap();
    let words = || Words::new(Text, "english", "boats");
    let search = |to| hybrid(note::Entity::find(), At, to, words());
    let found = search(vec![1.0, 0.0]).all(&pg).await.unwrap();
    let expected = [(1, Some(1), Some(2)), (3, Some(2), Some(1)), (5, None, Some(3))];
    assert_eq!(ranks(&found), expected);
    let refused = async {
        [
            search(vec![0.0, 0.0]).all(&pg).await,
            search(vec![f32::NAN, 0.0]).all(&pg).await,
            search(vec![1.0, 0.0]).limit(u64::MAX).all(&pg).await,
            search(vec![1.0, 0.0]).candidates(u64::MAX).all(&pg).await,
        ]
    };
    for refused in wharf::assert_queries(0, refused).await {
        assert!(matches!(refused, Err(wharf::Error::Vector(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn both_lists_are_of_what_the_filter_leaves_and_as_long_as_was_said() {
    let Some((_database, pg)) = notes().await else { return };
    VectorIndex::on(At, Distance::Cosine).build(&pg).await.unwrap();
    let words = || Words::new(Text, "english", "boats -beside");
    let not_the_first = note::Entity::find().filter(Id.ne(1));
    let found = hybrid(not_the_first, At, vec![1.0, 0.0], words()).limit(3).all(&pg).await.unwrap();
    // 2 and 5 are each the first of a list, so their keys decide.
    assert_eq!(ranks(&found), [(2, Some(1), None), (5, None, Some(1)), (3, Some(2), None)]);
    let search = hybrid(note::Entity::find(), At, vec![1.0, 0.0], words()).candidates(1).k(0);
    let found = search.all(&pg).await.unwrap();
    assert_eq!(found.iter().map(|it| (it.model.id, it.score)).collect::<Vec<_>>(), [(1, 2.0)]);
}

#[tokio::test]
async fn words_are_values_and_a_language_is_a_name() {
    let Some((_database, pg)) = notes().await else { return };
    let words = Words::new(Text, "english", "'; DROP TABLE note; -- \"$1 ?");
    let found = hybrid(note::Entity::find(), At, vec![1.0, 0.0], words).all(&pg).await.unwrap();
    assert_eq!(found.len(), 4);
    let words = Words::new(Text, "english'); DROP TABLE note; --", "x");
    let search = hybrid(note::Entity::find(), At, vec![1.0, 0.0], words);
    let error = wharf::assert_queries(0, search.all(&pg)).await.unwrap_err();
    assert!(error.to_string().contains("not a text search configuration"), "{error}");
}
