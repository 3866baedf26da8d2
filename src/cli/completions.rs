//! `pollmark completions`: what a shell has to know so that Tab finishes our words.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, Failure};

/// Prints a script by which a shell completes the command's words.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pollmark completions bash > ~/.local/share/bash-completion/completions/pollmark
  pollmark completions zsh > ~/.zfunc/_pollmark          in a directory that $fpath has
  pollmark completions fish > ~/.config/fish/completions/pollmark.fish
  pollmark completions powershell >> $PROFILE")]
pub(super) struct Arguments {
    /// For which shell.
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    Ok(io::stdout().lock().write_all(&script(arguments.shell))?)
}

fn script(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "pollmark", &mut script);
    script
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn every_shell_is_told_every_sub_command_and_its_options() {
        for shell in Shell::value_variants() {
            let script = String::from_utf8(script(*shell)).expect("text");
            for command in Cli::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell}: {}", command.get_name());
            }
            assert!(script.contains("splice") && script.contains("workload"), "{shell}");
        }
    }
}
