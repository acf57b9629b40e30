"""What runs on the compute node: the attempt that wraps a program, and the session it may use.

Standard library only, and little of it: ten thousand array tasks import this package from a
shared file system. submitit is imported only when a preempted trial asks to be requeued.
"""
