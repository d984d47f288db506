//! The command `dorefac`. Everything it does is in [`dorefac::cli`].

fn main() -> std::process::ExitCode {
    dorefac::cli::main()
}
