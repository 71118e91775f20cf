/* `comfymux sim`: ComfyUI servers without a GPU. */
#ifndef SIM_SIM_H
#define SIM_SIM_H

/* argv[0] is "sim". Returns the exit status. */
int sim_main(int argc, char **argv);

#endif
