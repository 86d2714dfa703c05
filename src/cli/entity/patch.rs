//! What is put right in the generator's text: columns whose type it does not know how to read.

use syn::punctuated::Punctuated;
use syn::{Attribute, Expr, ExprLit, Field, Fields, File, Item, Lit, Meta, Token, parse_quote};

use super::catalog::{Catalog, Typed};
use crate::cli::failure::Failure;

/// The text with the types of its columns said in full.
pub(super) fn patched(text: &str, catalog: &Catalog) -> Result<String, Failure> {
    let mut file = syn::parse_file(text)
        .map_err(|error| Failure::Failed(format!("sea-orm-codegen wrote invalid Rust: {error}")))?;
    let mut changed = false;
    for item in &mut file.items {
        let Item::Struct(model) = item else {
            continue;
        };
        let (Some(table), Fields::Named(fields)) =
            (value(&model.attrs, "table_name"), &mut model.fields)
        else {
            continue;
        };
        for field in &mut fields.named {
            let Some(column) = column(field) else {
                continue;
            };
            if let Some(typed) = catalog.columns.get(&(table.clone(), column)) {
                changed = true;
                say(field, typed);
            }
        }
    }
    Ok(if changed { spaced(file) } else { text.to_owned() })
}

/// As text, with the empty lines between items that the generator sets.
fn spaced(file: File) -> String {
    let part = |attrs, items| prettyplease::unparse(&File { shebang: None, attrs, items });
    let mut text = part(file.attrs, Vec::new());
    let mut imports = false;
    for item in file.items {
        let import = matches!(item, Item::Use(_));
        if !(imports && import) {
            text.push('\n');
        }
        imports = import;
        text.push_str(&part(Vec::new(), vec![item]));
    }
    text
}

/// The column of a field; `None` for a relation.
fn column(field: &Field) -> Option<String> {
    let named = value(&field.attrs, "column_name");
    named.or_else(|| {
        field.ident.as_ref().map(|it| it.to_string().trim_start_matches("r#").to_owned())
    })
}

fn say(field: &mut Field, typed: &Typed) {
    let mut said = match field.attrs.iter().position(|it| it.path().is_ident("sea_orm")) {
        Some(at) => metas(&field.attrs.remove(at)),
        None => Vec::new(),
    };
    said.retain(|meta| !meta.path().is_ident("column_type"));
    match typed {
        Typed::Vector(None) => {}
        Typed::Vector(Some(length)) => {
            let vector = format!("Vector(Some({length}))");
            said.push(parse_quote!(column_type = #vector));
        }
        Typed::Text { declared, cast, array } => {
            let custom = format!("custom(\"{declared}\")");
            let text = if *array { "text[]" } else { "text" };
            said.push(parse_quote!(column_type = #custom));
            said.push(parse_quote!(select_as = #text));
            said.push(parse_quote!(save_as = #cast));
        }
    }
    if !said.is_empty() {
        field.attrs.push(parse_quote!(#[sea_orm(#(#said),*)]));
    }
}

fn metas(attribute: &Attribute) -> Vec<Meta> {
    let metas = attribute.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated);
    metas.map(|metas| metas.into_iter().collect()).unwrap_or_default()
}

/// What `#[sea_orm(name = "…")]` says.
fn value(attributes: &[Attribute], name: &str) -> Option<String> {
    let sea_orm = attributes.iter().filter(|it| it.path().is_ident("sea_orm"));
    sea_orm.flat_map(metas).find_map(|meta| match meta {
        Meta::NameValue(pair) if pair.path.is_ident(name) => match pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    })
}
