//! The attribute `#[wharf::test]`; its documentation is at `wharf::test`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, ItemFn, Type, parse_macro_input, spanned::Spanned as _};

/// A test with a database of its own.
#[proc_macro_attribute]
pub fn test(
    arguments: proc_macro::TokenStream,
    item: proc_macro::TokenStream,
) -> proc_macro::TokenStream {
    let migrator = match arguments.is_empty() {
        true => None,
        false => Some(parse_macro_input!(arguments as Type)),
    };
    let test = parse_macro_input!(item as ItemFn);
    expanded(migrator, test).unwrap_or_else(Error::into_compile_error).into()
}

fn expanded(migrator: Option<Type>, mut test: ItemFn) -> Result<TokenStream, Error> {
    let wrong = |at: &dyn quote::ToTokens, message: &str| Err(Error::new(at.span(), message));
    if test.sig.asyncness.is_none() {
        return wrong(&test.sig.fn_token, "a test with a database is an `async fn`");
    }
    if test.sig.inputs.len() != 1 {
        return wrong(&test.sig.ident, "it takes its database: `&TestDatabase`, or `Pg`");
    }
    let attributes = std::mem::take(&mut test.attrs);
    let (visibility, name, output) = (&test.vis, &test.sig.ident, &test.sig.output);
    let database = match migrator {
        Some(migrator) => quote!(::wharf::testing::TestDatabase::new::<#migrator>()),
        None => quote!(::wharf::testing::TestDatabase::empty()),
    };
    Ok(quote! {
        #(#attributes)*
        #[::core::prelude::v1::test]
        #visibility fn #name() #output {
            #test
            ::wharf::testing::run(#database, async |database: &::wharf::testing::TestDatabase| {
                #name(::core::convert::From::from(database)).await
            })
        }
    })
}
