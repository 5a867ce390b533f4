"""Small classifiers as feature networks, so that every metric runs offline: Fashion-MNIST's, or one of your own images.

Distances between their features are good for comparing settings on one kind of images, and for nothing else: they are
not FID, and are called "demo FID" wherever they are shown. The command is `python -m metrics.demo_detector`.
"""
