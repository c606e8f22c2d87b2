"""Posterior families: which q(z | x) can an encoder or an optimizer describe?"""
