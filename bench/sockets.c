/* Real connections for the benchmark: a server that greets with one byte, and clients that wait for it.
 *
 *   sockets serve PORT
 *   sockets connect FIRST-TARGET TARGETS PORT FIRST-SOURCE SOURCES AT-ONCE SECONDS
 *
 * The client prints: connections, seconds, median and 99th percentile of the time to the byte in microseconds, failures.
 * It closes with a reset, so that nothing is left in TIME_WAIT and the ports can be used again at once.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif
#define EVENTS 256
#define SLOWEST 1000000 /* microseconds; the histogram's last bucket */

struct client {
    int fd;
    double begun;
};

static uint32_t histogram[SLOWEST + 1];

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void watch(int poll, int fd, void *what) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = what};
    epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
}

static void close_with_reset(int fd) {
    struct linger now_ = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now_, sizeof now_);
    close(fd);
}

static int serve(int port) {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1, poll = epoll_create1(0);
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(port)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 8192)) return perror("listen"), 1;
    watch(poll, listener, (void *)(intptr_t)listener);
    for (;;) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(poll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            int fd = (int)(intptr_t)events[i].data.ptr;
            if (fd != listener) {
                close_with_reset(fd);
                continue;
            }
            while ((fd = accept4(listener, 0, 0, SOCK_NONBLOCK)) >= 0) {
                if (send(fd, "x", 1, MSG_NOSIGNAL) != 1) close(fd);
                else watch(poll, fd, (void *)(intptr_t)fd);
            }
        }
    }
}

static void begin(int poll, struct client *client, uint32_t source, uint32_t target, int port) {
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(source)};
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(target)};
    int on = 1;
    client->begun = now();
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(client->fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    if (bind(client->fd, (struct sockaddr *)&here, sizeof here)) perror("bind"), exit(1);
    connect(client->fd, (struct sockaddr *)&there, sizeof there);
    watch(poll, client->fd, client);
}

static unsigned percentile(long total, double share) {
    long seen = 0;
    unsigned at = 0;
    while (at < SLOWEST && (seen += histogram[at]) < total * share) at++;
    return at;
}

static int connect_all(char **argument) {
    uint32_t target = ntohl(inet_addr(argument[0])), source = ntohl(inet_addr(argument[3]));
    unsigned targets = atoi(argument[1]), sources = atoi(argument[4]), at_once = atoi(argument[5]), next = 0;
    int port = atoi(argument[2]), poll = epoll_create1(0);
    long done = 0, failed = 0;
    struct client *clients = calloc(at_once, sizeof *clients);
    double start = now(), end = start + atof(argument[6]), time = start;
    for (unsigned i = 0; i < at_once; i++, next++)
        begin(poll, &clients[i], source + next % sources, target + next % targets, port);
    while (time < end) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(poll, events, EVENTS, 100);
        for (int i = 0; i < count; i++) {
            struct client *client = events[i].data.ptr;
            char byte;
            if (read(client->fd, &byte, 1) == 1) {
                double micros = (now() - client->begun) * 1e6;
                histogram[micros < SLOWEST ? (unsigned)micros : SLOWEST]++;
                done++;
            } else failed++;
            close_with_reset(client->fd);
            begin(poll, client, source + next % sources, target + next % targets, port);
            next++;
        }
        time = now();
    }
    printf("%ld %.6f %u %u %ld\n", done, time - start, percentile(done, .5), percentile(done, .99), failed);
    return 0;
}

int main(int count, char **arguments) {
    if (count == 3 && !strcmp(arguments[1], "serve")) return serve(atoi(arguments[2]));
    if (count == 9 && !strcmp(arguments[1], "connect")) return connect_all(arguments + 2);
    fprintf(stderr, "sockets serve PORT | sockets connect FIRST-TARGET TARGETS PORT FIRST-SOURCE SOURCES AT-ONCE SECONDS\n");
    return 2;
}
