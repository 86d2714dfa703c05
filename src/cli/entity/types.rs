//! The Rust type of a column.

use super::catalog::Type;

/// The most digits that `Decimal` holds.
const DECIMAL_DIGITS: i32 = 28;

/// How an entity declares a column.
pub(super) struct Mapped {
    /// Without `Option`.
    pub(super) rust: String,
    /// Of `#[sea_orm(…)]`.
    pub(super) attributes: Vec<String>,
    /// Whether the type implements `Eq`.
    pub(super) is_eq: bool,
    /// Why it is no key for SeaORM: values that differ in Rust are equal in PostgreSQL.
    pub(super) no_key: Option<&'static str>,
    /// The feature of sea-orm that has the type.
    pub(super) feature: Option<&'static str>,
}

impl Mapped {
    /// Maps a type. `enums` returns the Rust type of an enum that has one. In a primary key, arrays and vectors are text,
    /// because SeaORM supports neither there.
    pub(super) fn new(
        kind: &Type,
        is_primary: bool,
        enums: impl Fn(i64) -> Option<String>,
    ) -> Mapped {
        let mapped = match kind.class.as_str() {
            "e" if kind.is_visible => enums(kind.oid).map(|name| plain(&name)),
            "b" if kind.is_builtin => builtin(kind),
            "b" if is_vector(kind) && !is_primary => Some(vector(kind)),
            _ => None,
        };
        let is_list = kind.is_array && kind.dimensions <= 1 && !is_primary;
        let mut mapped = match mapped {
            Some(mapped) if is_list => array(mapped),
            Some(mapped) if !kind.is_array => mapped,
            _ => text(kind, is_list),
        };
        if !kind.is_deterministic {
            mapped.no_key = Some("its collation takes different texts for equal");
        }
        mapped
    }

    /// Whether it is read and written as text, because SeaORM has no type for it.
    pub(super) fn is_text(&self) -> bool {
        self.attributes.iter().any(|it| it.starts_with("select_as"))
    }

    /// Checks that SeaORM finds the row that a key refers to, which it does by comparing values in Rust.
    pub(super) fn check_key(&self, kind: &Type, to: &Mapped, to_kind: &Type) -> Result<(), String> {
        if let Some(why) = self.no_key.or(to.no_key) {
            return Err(format!("SeaORM compares keys in Rust, and {why}"));
        }
        let is_padded = |kind: &Type| (kind.name == "bpchar").then_some(kind.modifier);
        let is_same_text = !(self.is_text() || to.is_text()) || kind.name == to_kind.name;
        match self.rust == to.rust && is_padded(kind) == is_padded(to_kind) && is_same_text {
            true => Ok(()),
            false => Err(format!(
                "it compares {} with {}, which are of different types in Rust",
                kind.declared, to_kind.declared
            )),
        }
    }
}

fn plain(rust: &str) -> Mapped {
    Mapped {
        rust: rust.to_owned(),
        attributes: Vec::new(),
        is_eq: true,
        no_key: None,
        feature: None,
    }
}

fn typed(rust: &str, column_type: &str) -> Mapped {
    Mapped { attributes: vec![format!("column_type = {column_type:?}")], ..plain(rust) }
}

fn needs(feature: &'static str, mapped: Mapped) -> Mapped {
    Mapped { feature: Some(feature), ..mapped }
}

fn builtin(kind: &Type) -> Option<Mapped> {
    const JSON: &str = "different texts of JSON are equal";
    Some(match kind.name.as_str() {
        "int2" => plain("i16"),
        "int4" => plain("i32"),
        "int8" => plain("i64"),
        "float4" => Mapped { is_eq: false, ..typed("f32", "Float") },
        "float8" => Mapped { is_eq: false, ..typed("f64", "Double") },
        "numeric" => needs("with-rust_decimal", decimal(kind.modifier)?),
        "bool" => plain("bool"),
        "text" => typed("String", "Text"),
        "varchar" => plain("String"),
        "bpchar" => padded(kind.modifier),
        "bytea" => typed("Vec<u8>", "VarBinary(StringLen::None)"),
        "date" => needs("with-chrono", plain("Date")),
        "time" => needs("with-chrono", plain("Time")),
        "timestamp" => needs("with-chrono", plain("DateTime")),
        "timestamptz" => needs("with-chrono", plain("DateTimeWithTimeZone")),
        "uuid" => needs("with-uuid", plain("Uuid")),
        "json" => Mapped { no_key: Some(JSON), ..needs("with-json", plain("Json")) },
        "jsonb" => Mapped { no_key: Some(JSON), ..needs("with-json", typed("Json", "JsonBinary")) },
        "inet" => needs("with-ipnetwork", plain("IpNetwork")),
        "cidr" => needs("with-ipnetwork", typed("IpNetwork", "Cidr")),
        _ => return None,
    })
}

/// Maps `char(n)`, which PostgreSQL pads with blanks. Compared with a bind of type `text`, the column loses its blanks and the
/// bind keeps them, so a key would match no row. Hence the cast.
fn padded(modifier: i32) -> Mapped {
    // The modifier counts the 4 bytes of the length, too.
    let mut mapped = match modifier {
        5.. => typed("String", &format!("Char(Some({}))", modifier - 4)),
        _ => plain("String"),
    };
    mapped.attributes.push("save_as = \"bpchar\"".to_owned());
    mapped
}

/// The modifier of a numeric has its precision in the upper 16 bits, and its scale, which may be negative, in the lower 11.
fn decimal(modifier: i32) -> Option<Mapped> {
    if modifier < 4 {
        return Some(plain("Decimal"));
    }
    let digits = modifier - 4;
    let (precision, scale) = ((digits >> 16) & 0xffff, ((digits & 0x7ff) ^ 1024) - 1024);
    match (precision, scale) {
        (1..=DECIMAL_DIGITS, 0..=DECIMAL_DIGITS) if scale <= precision => {
            Some(typed("Decimal", &format!("Decimal(Some(({precision}, {scale})))")))
        }
        (1..=DECIMAL_DIGITS, ..=DECIMAL_DIGITS) => Some(plain("Decimal")),
        _ => None,
    }
}

/// Whether it is pgvector's vector, and SeaORM can bind it, which it does by the type's name alone.
fn is_vector(kind: &Type) -> bool {
    let is_own = kind.extension.as_deref() == Some("vector") && kind.name == "vector";
    is_own && kind.is_visible && !kind.is_array
}

fn vector(kind: &Type) -> Mapped {
    let mapped = match kind.modifier {
        length @ 1.. => typed("PgVector", &format!("Vector(Some({length}))")),
        _ => plain("PgVector"),
    };
    needs("postgres-vector", Mapped { is_eq: false, ..mapped })
}

fn array(element: Mapped) -> Mapped {
    Mapped { rust: format!("Vec<{}>", element.rust), attributes: Vec::new(), ..element }
}

/// Read and written as text, which every type has.
fn text(kind: &Type, is_list: bool) -> Mapped {
    let (rust, read) = if is_list { ("Vec<String>", "text[]") } else { ("String", "text") };
    let mut mapped = typed(rust, &format!("custom({:?})", kind.declared));
    mapped.attributes.push(format!("select_as = {read:?}"));
    mapped.attributes.push(format!("save_as = {:?}", kind.cast));
    mapped.no_key = match kind.name.as_str() {
        "citext" => Some("different texts of citext are equal"),
        "interval" => Some("different texts of interval are equal"),
        "geometry" | "geography" => Some("different texts of a geometry are equal"),
        _ => None,
    };
    mapped
}
