import torch as th

# Networks this small are several times faster on one thread, and pytest-xdist already uses the other cores.
th.set_num_threads(1)
