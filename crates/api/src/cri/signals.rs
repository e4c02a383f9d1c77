//! The stop signals that an image or a container can name.
//!
//! On the wire they are numbered alphabetically; [`Signal::number`] gives Linux's numbers (x86 and Arm).

macro_rules! signals {
    ($($variant:ident = $wire:literal, $name:literal, $number:literal;)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
        #[repr(i32)]
        pub enum Signal {
            /// None was asked for: the image's, else SIGTERM.
            RuntimeDefault = 0,
            $($variant = $wire,)*
        }

        const TABLE: &[(Signal, &str, i32)] = &[$((Signal::$variant, $name, $number),)*];
    };
}

signals! {
    Sigabrt = 1, "SIGABRT", 6;
    Sigalrm = 2, "SIGALRM", 14;
    Sigbus = 3, "SIGBUS", 7;
    Sigchld = 4, "SIGCHLD", 17;
    Sigcld = 5, "SIGCLD", 17;
    Sigcont = 6, "SIGCONT", 18;
    Sigfpe = 7, "SIGFPE", 8;
    Sighup = 8, "SIGHUP", 1;
    Sigill = 9, "SIGILL", 4;
    Sigint = 10, "SIGINT", 2;
    Sigio = 11, "SIGIO", 29;
    Sigiot = 12, "SIGIOT", 6;
    Sigkill = 13, "SIGKILL", 9;
    Sigpipe = 14, "SIGPIPE", 13;
    Sigpoll = 15, "SIGPOLL", 29;
    Sigprof = 16, "SIGPROF", 27;
    Sigpwr = 17, "SIGPWR", 30;
    Sigquit = 18, "SIGQUIT", 3;
    Sigsegv = 19, "SIGSEGV", 11;
    Sigstkflt = 20, "SIGSTKFLT", 16;
    Sigstop = 21, "SIGSTOP", 19;
    Sigsys = 22, "SIGSYS", 31;
    Sigterm = 23, "SIGTERM", 15;
    Sigtrap = 24, "SIGTRAP", 5;
    Sigtstp = 25, "SIGTSTP", 20;
    Sigttin = 26, "SIGTTIN", 21;
    Sigttou = 27, "SIGTTOU", 22;
    Sigurg = 28, "SIGURG", 23;
    Sigusr1 = 29, "SIGUSR1", 10;
    Sigusr2 = 30, "SIGUSR2", 12;
    Sigvtalrm = 31, "SIGVTALRM", 26;
    Sigwinch = 32, "SIGWINCH", 28;
    Sigxcpu = 33, "SIGXCPU", 24;
    Sigxfsz = 34, "SIGXFSZ", 25;
    Sigrtmin = 35, "SIGRTMIN", 34;
    SigrtminPlus1 = 36, "SIGRTMINPLUS1", 35;
    SigrtminPlus2 = 37, "SIGRTMINPLUS2", 36;
    SigrtminPlus3 = 38, "SIGRTMINPLUS3", 37;
    SigrtminPlus4 = 39, "SIGRTMINPLUS4", 38;
    SigrtminPlus5 = 40, "SIGRTMINPLUS5", 39;
    SigrtminPlus6 = 41, "SIGRTMINPLUS6", 40;
    SigrtminPlus7 = 42, "SIGRTMINPLUS7", 41;
    SigrtminPlus8 = 43, "SIGRTMINPLUS8", 42;
    SigrtminPlus9 = 44, "SIGRTMINPLUS9", 43;
    SigrtminPlus10 = 45, "SIGRTMINPLUS10", 44;
    SigrtminPlus11 = 46, "SIGRTMINPLUS11", 45;
    SigrtminPlus12 = 47, "SIGRTMINPLUS12", 46;
    SigrtminPlus13 = 48, "SIGRTMINPLUS13", 47;
    SigrtminPlus14 = 49, "SIGRTMINPLUS14", 48;
    SigrtminPlus15 = 50, "SIGRTMINPLUS15", 49;
    SigrtmaxMinus14 = 51, "SIGRTMAXMINUS14", 50;
    SigrtmaxMinus13 = 52, "SIGRTMAXMINUS13", 51;
    SigrtmaxMinus12 = 53, "SIGRTMAXMINUS12", 52;
    SigrtmaxMinus11 = 54, "SIGRTMAXMINUS11", 53;
    SigrtmaxMinus10 = 55, "SIGRTMAXMINUS10", 54;
    SigrtmaxMinus9 = 56, "SIGRTMAXMINUS9", 55;
    SigrtmaxMinus8 = 57, "SIGRTMAXMINUS8", 56;
    SigrtmaxMinus7 = 58, "SIGRTMAXMINUS7", 57;
    SigrtmaxMinus6 = 59, "SIGRTMAXMINUS6", 58;
    SigrtmaxMinus5 = 60, "SIGRTMAXMINUS5", 59;
    SigrtmaxMinus4 = 61, "SIGRTMAXMINUS4", 60;
    SigrtmaxMinus3 = 62, "SIGRTMAXMINUS3", 61;
    SigrtmaxMinus2 = 63, "SIGRTMAXMINUS2", 62;
    SigrtmaxMinus1 = 64, "SIGRTMAXMINUS1", 63;
    Sigrtmax = 65, "SIGRTMAX", 64;
}

impl Signal {
    /// Linux's number; `None` for [`Signal::RuntimeDefault`].
    pub fn number(self) -> Option<i32> {
        TABLE.iter().find(|row| row.0 == self).map(|row| row.2)
    }

    /// The name in `v1.ContainerStatus.stopSignal`; empty for [`Signal::RuntimeDefault`].
    pub fn name(self) -> &'static str {
        TABLE.iter().find(|row| row.0 == self).map_or("", |row| row.1)
    }

    /// Reads a name (`SIGTERM`, `term`, `SIGRTMIN+3`, `SIGRTMINPLUS3`) or a Linux number, as images spell them.
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(number) = text.parse::<i32>() {
            return TABLE.iter().find(|row| row.2 == number).map(|row| row.0);
        }
        let name = text.to_ascii_uppercase().replace('+', "PLUS").replace('-', "MINUS");
        let name = name.strip_prefix("SIG").unwrap_or(&name);
        TABLE.iter().find(|row| row.1.strip_prefix("SIG") == Some(name)).map(|row| row.0)
    }
}
