// tty NAME...: calls that a terminal takes from whoever has it open. They are made on 0, or where that is no terminal on 2.
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

static int terminal(void)
{
    return isatty(0) ? 0 : 2;
}

static int call(const char *name)
{
    int fd = terminal(), line = 27;
    if (!strcmp(name, "stop")) // nothing is shown any more
        return ioctl(fd, TCXONC, TCOOFF);
    if (!strcmp(name, "discipline")) // nothing that is typed arrives any more
        return ioctl(fd, TIOCSETD, &line);
    if (!strcmp(name, "exclusive")) // nobody opens it any more
        return ioctl(fd, TIOCEXCL);
    if (!strcmp(name, "raw")) {
        struct termios settings = {0};
        return tcsetattr(fd, TCSANOW, &settings);
    }
    if (!strcmp(name, "group")) // its keys are for somebody else
        return tcsetpgrp(fd, getpgrp());
    errno = EINVAL;
    return -1;
}

// Every signal that can be held back, one after the other.
static void signals(void)
{
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        int number = sigwaitinfo(&all, NULL);
        if (number > 0)
            printf("got %d.\n", number);
        fflush(stdout);
    }
}

int main(int count, char **words)
{
    if (count > 1 && !strcmp(words[1], "signals"))
        signals();
    for (int i = 1; i < count; i++) {
        dprintf(1, "%s\n", words[i]); // not after it: a container can make its own terminal mute
        if (call(words[i]))
            return errno;
    }
    return 0;
}
