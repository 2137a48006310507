"""Lets a thousand simulated users swipe cards drawn by chance, without a server."""

import gymnasium

envs = gymnasium.make_vec("env.gym.registration:nextswipe/Swipe-v0", num_envs=1024, obs="flat")
observation, info = envs.reset(seed=0)
observation, reward, terminated, truncated, info = envs.step(envs.action_space.sample())
print(f"{len(reward)} cards were answered, with a mean reward of {reward.mean():.2f}")
