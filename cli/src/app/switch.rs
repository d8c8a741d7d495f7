//! Switches take a value where a script gives one, as Docker's do: `--detach=false`, `-q=1`.

use std::any::TypeId;

use clap::{Arg, ArgAction, Command};

use crate::opt::boolean;

/// The command with values for all switches of all commands below it.
pub(super) fn with_values(command: Command) -> Command {
    command.mut_args(with_value).mut_subcommands(with_values)
}

fn with_value(arg: Arg) -> Arg {
    let is_boolean = arg.get_value_parser().type_id() == TypeId::of::<bool>();
    let name = arg.get_id().as_str().replace('_', "-");
    let read = move |text: &str| boolean::parse(&name, text);
    match arg.get_action() {
        ArgAction::SetTrue => arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_value("false")
            .default_missing_value("true")
            .value_parser(read),
        ArgAction::Set if is_boolean => arg.value_parser(read),
        _ => arg,
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use crate::app::{Cli, parse};

    fn parsed(line: &str) -> Result<Cli, String> {
        let words = ["coracle"].into_iter().chain(line.split(' ')).map(OsString::from);
        parse(words).map_err(|error| format!("{} {error}", error.kind()))
    }

    fn told(line: &str) -> String {
        format!("{:?}", parsed(line).unwrap().command)
    }

    #[test]
    fn a_switch_may_be_told_its_value() {
        let create = "service create --name web";
        for (on, off) in
            [("--detach", "--detach=false"), ("-d", "-d=0"), ("--quiet=T", "--quiet=F"), ("-q=1", "-q=false")]
        {
            assert_eq!(told(&format!("{create} {off} web:1")), told(&format!("{create} web:1")), "{off}");
            assert_ne!(told(&format!("{create} {on} web:1")), told(&format!("{create} web:1")), "{on}");
        }
        assert_eq!(told(&format!("{create} --detach=true web:1")), told(&format!("{create} -d web:1")));
        assert_eq!(
            told(&format!("{create} --read-only=1 web:1")),
            told(&format!("{create} --read-only web:1"))
        );
        assert!(parsed(&format!("{create} --detach=maybe web:1")).unwrap_err().contains("use true or false"));
        // What follows the image is the container's.
        assert!(told(&format!("{create} web:1 serve --detach=false")).contains("--detach=false"));
    }

    #[test]
    fn of_a_flag_with_one_value_the_last_counts() {
        let create = "service create --name web";
        assert_eq!(
            told(&format!("{create} --replicas 1 --replicas 3 web:1")),
            told(&format!("{create} --replicas 3 web:1"))
        );
        // Lists have them all.
        assert_ne!(
            told(&format!("{create} --env A=1 --env B=2 web:1")),
            told(&format!("{create} --env B=2 web:1"))
        );
    }

    #[test]
    fn help_shows_switches_without_values() {
        let help = parsed("service create --help").unwrap_err();
        assert!(help.contains("--detach") && !help.contains("--detach["), "{help}");
    }
}
