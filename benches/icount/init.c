/* The one program of an emulated machine: serves each row of /plan, loads it, and prints what the server's CPU time was,
 * and that of the kernel's threads.
 *
 * The emulator makes every instruction a nanosecond, so CPU time is the number of instructions, the kernel's included.
 * There is one CPU, so everything happens in the same order every time. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SIZE = 64, MOST_ACTIVE = 256 };
enum { PATIENCE = 3 }; /* Seconds. Nobody waits for them: the clock of a machine that sleeps goes on at once. */

static void end(void) {
    sync();
    reboot(RB_POWER_OFF);
    for (;;) pause();
}

static void fail(const char *what) {
    printf("failed: %s: %s\n", what, strerror(errno));
    end();
}

static int check(int result, const char *what) {
    if (result < 0) fail(what);
    return result;
}

/* What a kernel needs of its first program: its file systems, a console, the loopback interface, and descriptors. */
static void begin(void) {
    mkdir("/proc", 0755);
    mkdir("/dev", 0755);
    check(mount("proc", "/proc", "proc", 0, NULL), "mount /proc");
    check(mount("devtmpfs", "/dev", "devtmpfs", 0, NULL), "mount /dev");
    int console = check(open("/dev/ttyS0", O_RDWR), "the console");
    for (int number = 0; number < 3; number++) dup2(console, number);
    setvbuf(stdout, NULL, _IOLBF, 0);

    struct ifreq loopback = {.ifr_name = "lo"};
    int any = check(socket(AF_INET, SOCK_DGRAM, 0), "a socket");
    check(ioctl(any, SIOCGIFFLAGS, &loopback), "the loopback interface");
    loopback.ifr_flags |= IFF_UP;
    check(ioctl(any, SIOCSIFFLAGS, &loopback), "the loopback interface");
    close(any);
    struct rlimit limit = {30000, 30000};
    check(setrlimit(RLIMIT_NOFILE, &limit), "the limit of descriptors");
}

static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

/* What a thread has run for, by the file that says so; 0 if it has ended. */
static long long run_time(const char *path) {
    long long time = 0;
    FILE *file = fopen(path, "r");
    if (file && fscanf(file, "%lld", &time) != 1) time = 0;
    if (file) fclose(file);
    return time;
}

static DIR *list(const char *path) {
    DIR *listed = opendir(path);
    if (!listed) fail(path);
    return listed;
}

/* All threads of a process together. */
static long long cpu_time(pid_t process) {
    char path[300];
    long long sum = 0;
    snprintf(path, sizeof path, "/proc/%d/task", process);
    DIR *threads = list(path);
    for (struct dirent *entry; (entry = readdir(threads));) {
        snprintf(path, sizeof path, "/proc/%d/task/%s/schedstat", process, entry->d_name);
        if (entry->d_name[0] != '.') sum += run_time(path);
    }
    closedir(threads);
    return sum;
}

/* All threads of the kernel together: they have no command line. What it does later on behalf of a server is theirs. */
static long long kernel_time(void) {
    char path[300];
    long long sum = 0;
    DIR *processes = list("/proc");
    for (struct dirent *entry; (entry = readdir(processes));) {
        if (atoi(entry->d_name) == 0) continue;
        snprintf(path, sizeof path, "/proc/%s/cmdline", entry->d_name);
        FILE *command = fopen(path, "r");
        int is_kernel = command && fgetc(command) == EOF;
        if (command) fclose(command);
        snprintf(path, sizeof path, "/proc/%s/schedstat", entry->d_name);
        if (is_kernel) sum += run_time(path);
    }
    closedir(processes);
    return sum;
}

/* Starts a server: a program of its own if there is one of this name, else that backend of pollmark. Its first line says
 * where it listens. */
static pid_t serve(const char *name, struct sockaddr_in *address, int *output) {
    char path[80], line[200] = "";
    int ends[2];
    snprintf(path, sizeof path, "/%s", name);
    check(pipe(ends), "a pipe");
    pid_t process = check(fork(), "fork");
    if (process == 0) {
        dup2(ends[1], 1);
        close(ends[0]);
        close(ends[1]);
        execl(path, path, "127.0.0.1:0", NULL);
        execl("/pollmark", "/pollmark", "serve", "--backend", name, "--listen", "127.0.0.1:0", NULL);
        _exit(1);
    }
    close(ends[1]);
    for (size_t at = 0; at < sizeof line - 1 && read(ends[0], line + at, 1) == 1 && line[at] != '\n'; at++) {}
    char *port = strrchr(line, ':');
    if (!port) fail(name);
    *address = (struct sockaddr_in){.sin_family = AF_INET,
                                    .sin_port = htons(atoi(port + 1)),
                                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    *output = ends[0];
    return process;
}

static int connection(const struct sockaddr_in *address) {
    int connected = check(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "a socket"), on = 1;
    setsockopt(connected, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    check(connect(connected, (const struct sockaddr *)address, sizeof *address), "connect");
    return connected;
}

/* One request on each, all sent before the first answer is read. */
static void echo(const int *connections, int count) {
    static char bytes[SIZE];
    for (int at = 0; at < count; at++)
        if (send(connections[at], bytes, SIZE, 0) != SIZE) fail("send");
    for (int at = 0; at < count; at++)
        if (recv(connections[at], bytes, SIZE, MSG_WAITALL) != SIZE) fail("recv");
}

static void open_all(int *connections, int count, const struct sockaddr_in *address) {
    for (int at = 0; at < count; at++) connections[at] = connection(address);
}

static void close_all(const int *connections, int count) {
    for (int at = 0; at < count; at++) close(connections[at]);
}

static void rounds(int churn, int times, int *active, int count, const struct sockaddr_in *address) {
    for (int round = 0; round < times; round++) {
        if (churn) open_all(active, count, address);
        echo(active, count);
        if (churn) close_all(active, count);
    }
}

/* One row: instructions per request, after a third as many that are not counted, and enough for the slow to settle; and
 * those of the kernel's own threads, once they have done what was put off. */
static void row(const char *kind, const char *name, int idle_count, int count, int requests) {
    struct sockaddr_in address;
    int output, churn = strcmp(kind, "churn") == 0, active[MOST_ACTIVE];
    pid_t server = serve(name, &address, &output);
    int *idle = calloc(idle_count + 1, sizeof *idle);
    for (int at = 0; at < idle_count; at++) {
        idle[at] = connection(&address);
        if (at % 16 == 15) echo(idle + at, 1); /* By now all before it are accepted, and the backlog is never full. */
    }
    if (!churn) open_all(active, count, &address);
    int times = requests / count;
    rounds(churn, times / 3 + 300 / count, active, count, &address);
    sleep(PATIENCE);
    long long kernel_before = kernel_time(), before = cpu_time(server);
    rounds(churn, times, active, count, &address);
    long long spent = cpu_time(server) - before;
    sleep(PATIENCE);
    long long kernel_spent = kernel_time() - kernel_before;
    double requests_made = times * count;
    printf("row %s %s %d %d %.0f %.0f\n", kind, name, idle_count, count, spent / requests_made, kernel_spent / requests_made);

    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    if (!churn) close_all(active, count);
    close_all(idle, idle_count);
    free(idle);
    close(output);
}

/* Single calls, by which a policy may be priced. */
static void calls(void) {
    enum { TIMES = 1000 };
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = check(socket(AF_INET, SOCK_STREAM, 0), "a socket");
    check(bind(listener, (struct sockaddr *)&address, sizeof address), "bind");
    check(listen(listener, 8), "listen");
    getsockname(listener, (struct sockaddr *)&address, &length);
    int queue = check(epoll_create1(0), "epoll"), connected = connection(&address);
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP};
#define COUNT(name, call)                                                                          \
    do {                                                                                           \
        long long began = now();                                                                   \
        for (int time = 0; time < TIMES; time++) { call; }                                         \
        printf("call %s: %lld\n", name, (now() - began) / TIMES);                                  \
    } while (0)
    COUNT("getppid", syscall(SYS_getppid));
    COUNT("socket, close", close(socket(AF_INET, SOCK_STREAM, 0)));
    COUNT("socket, EPOLL_CTL_ADD, close", int made = socket(AF_INET, SOCK_STREAM, 0);
          epoll_ctl(queue, EPOLL_CTL_ADD, made, &event); close(made));
    COUNT("EPOLL_CTL_ADD, EPOLL_CTL_DEL", epoll_ctl(queue, EPOLL_CTL_ADD, connected, &event);
          epoll_ctl(queue, EPOLL_CTL_DEL, connected, &event));
    epoll_ctl(queue, EPOLL_CTL_ADD, connected, &event);
    COUNT("EPOLL_CTL_MOD", event.events ^= EPOLLPRI; epoll_ctl(queue, EPOLL_CTL_MOD, connected, &event));
    COUNT("epoll_create1, close", close(epoll_create1(0)));
    close(connected);
    close(listener);
    close(queue);
}

int main(void) {
    begin();
    long turns = 100000000;
    long long began = now();
    __asm__ volatile("1: dec %0; jnz 1b" : "+r"(turns));
    printf("scale %.3f\n", (now() - began) / 2e8); /* Two instructions a turn: 1 if all is as it should be. */
    calls();

    char line[200], kind[20], name[60];
    int idle, active, requests;
    FILE *plan = fopen("/plan", "r");
    if (!plan) fail("the plan");
    while (fgets(line, sizeof line, plan))
        if (sscanf(line, "%19s %59s %d %d %d", kind, name, &idle, &active, &requests) == 5 && active <= MOST_ACTIVE)
            row(kind, name, idle, active, requests);
    puts("done");
    end();
}
