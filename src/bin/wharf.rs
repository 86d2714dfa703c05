//! The program `wharf`.

fn main() -> std::process::ExitCode {
    wharf::cli::main()
}
