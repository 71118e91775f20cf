/* The subcommands. Each gets its own name as argv[0] and gives the exit status (enum cli_status). */
#ifndef CLI_CLI_H
#define CLI_CLI_H

int serve_main(int argc, char **argv);
int run_main(int argc, char **argv);
int jobs_main(int argc, char **argv);
int servers_main(int argc, char **argv);
int doctor_main(int argc, char **argv);
int config_main(int argc, char **argv);

#endif
