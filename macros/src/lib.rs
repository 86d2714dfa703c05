//! The attribute `#[wharf::test]`; its documentation is at `wharf::test`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{
    Error, Ident, ItemFn, LitInt, LitStr, Token, Type,
    parse::{Parse, ParseStream},
    parse_macro_input,
    spanned::Spanned as _,
};

/// A test with a database of its own.
#[proc_macro_attribute]
pub fn test(
    arguments: proc_macro::TokenStream,
    item: proc_macro::TokenStream,
) -> proc_macro::TokenStream {
    let arguments = parse_macro_input!(arguments as Arguments);
    let test = parse_macro_input!(item as ItemFn);
    expanded(arguments, test).unwrap_or_else(Error::into_compile_error).into()
}

/// `Migrator, flavor = "multi_thread", worker_threads = 2`, each of which may be left out.
#[derive(Default)]
struct Arguments {
    migrator: Option<Type>,
    flavor: Option<LitStr>,
    worker_threads: Option<LitInt>,
}

impl Parse for Arguments {
    fn parse(input: ParseStream<'_>) -> Result<Arguments, Error> {
        let mut arguments = Arguments::default();
        if !input.is_empty() && !input.peek2(Token![=]) {
            arguments.migrator = Some(input.parse()?);
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        while !input.is_empty() {
            let name: Ident = input.parse()?;
            input.parse::<Token![=]>()?;
            match name.to_string().as_str() {
                "flavor" => arguments.flavor = Some(input.parse()?),
                "worker_threads" => arguments.worker_threads = Some(input.parse()?),
                _ => {
                    let known = "the arguments are a migrator, `flavor = \"multi_thread\"` and `worker_threads = 2`";
                    return Err(Error::new(name.span(), known));
                }
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(arguments)
    }
}

impl Arguments {
    fn runtime(&self) -> Result<TokenStream, Error> {
        let threads = self.worker_threads.as_ref();
        match self.flavor.as_ref().map(|flavor| (flavor, flavor.value())) {
            Some((_, flavor)) if flavor == "multi_thread" => {
                let threads = match threads {
                    Some(threads) => quote!(::core::option::Option::Some(#threads)),
                    None => quote!(::core::option::Option::None),
                };
                Ok(quote!(::wharf::testing::Flavor::MultiThread(#threads)))
            }
            Some((flavor, other)) if other != "current_thread" => {
                Err(Error::new(flavor.span(), "a flavor is \"current_thread\" or \"multi_thread\""))
            }
            _ => match threads {
                Some(threads) => Err(Error::new(
                    threads.span(),
                    "`worker_threads` needs `flavor = \"multi_thread\"`",
                )),
                None => Ok(quote!(::wharf::testing::Flavor::CurrentThread)),
            },
        }
    }
}

fn expanded(arguments: Arguments, mut test: ItemFn) -> Result<TokenStream, Error> {
    let wrong = |at: &dyn quote::ToTokens, message: &str| Err(Error::new(at.span(), message));
    if test.sig.asyncness.is_none() {
        return wrong(&test.sig.fn_token, "a test with a database is an `async fn`");
    }
    if test.sig.inputs.len() != 1 {
        return wrong(&test.sig.ident, "it takes its database: `&TestDatabase`, or `Pg`");
    }
    let attributes = std::mem::take(&mut test.attrs);
    let (visibility, name) = (&test.vis, &test.sig.ident);
    let runtime = arguments.runtime()?;
    let database = match arguments.migrator {
        Some(migrator) => quote!(::wharf::testing::TestDatabase::new::<#migrator>()),
        None => quote!(::wharf::testing::TestDatabase::empty()),
    };
    Ok(quote! {
        #(#attributes)*
        #[::core::prelude::v1::test]
        #[allow(clippy::panic)]
        #visibility fn #name() {
            #test
            let failure = ::wharf::testing::run(
                #runtime,
                #database,
                async |database: &::wharf::testing::TestDatabase| {
                    #name(::core::convert::From::from(database)).await
                },
            );
            if let ::core::option::Option::Some(failure) = failure {
                #[allow(unused_imports)]
                use ::wharf::testing::{ByDebug as _, ByDisplay as _};
                ::core::panic!("{}", (&::wharf::testing::Failure(failure)).text());
            }
        }
    })
}
